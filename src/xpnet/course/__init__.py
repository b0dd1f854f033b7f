"""The course: the pages of the documentation as notebooks that anybody can run, offline, and exercises that check.

Imported only when used: no module of a training run needs it.
"""

from xpnet.course.exercises import Result, check_exercises, exercise_names, write_exercises
from xpnet.course.notebooks import write_notebooks
from xpnet.course.pages import Page, read_page, runnable_pages

__all__ = [
    "Page",
    "Result",
    "check_exercises",
    "exercise_names",
    "read_page",
    "runnable_pages",
    "write_exercises",
    "write_notebooks",
]
