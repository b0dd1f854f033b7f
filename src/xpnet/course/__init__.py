"""The course: the documentation's pages as notebooks that run offline, and exercises with checks.

It is imported only when it is used; training does not need it.
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
