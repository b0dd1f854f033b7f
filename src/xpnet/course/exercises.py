"""Exercises as files to work on, and their checks."""

from __future__ import annotations

import contextlib
import io
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xpnet.course.notebooks import markdown
from xpnet.course.pages import Cell, Page, pages_folder, read_page, runnable_pages
from xpnet.files import write_atomically
from xpnet.parts import require_path

ROOM = "exercises/"


class Result(NamedTuple):
    """The result of an exercise's check.

    Attributes
    ----------
    name : str
        The name of the exercise.
    right : bool
        Whether the check accepted the file.
    message : str
        The reason if not, else ``"All right."``.
    """

    name: str
    right: bool
    message: str


def exercise_names() -> list[str]:
    """List the exercises.

    Examples
    --------
    >>> from xpnet.course import exercise_names
    >>> "leaky-relu" in exercise_names()
    True
    """
    return [name.removeprefix(ROOM) for name in runnable_pages() if name.startswith(ROOM)]


def write_exercises(folder: str | os.PathLike[str]) -> list[Path]:
    """Write a Python file for each exercise: the task as a comment, and code that does not work yet.

    Parameters
    ----------
    folder : path-like
        The folder, which is created if necessary. A file that already exists stays, since it may be your work.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    FileExistsError
        If ``folder`` is a file.

    Examples
    --------
    >>> import tempfile
    >>> from xpnet.course import write_exercises
    >>> folder = tempfile.mkdtemp()
    >>> len(write_exercises(folder)) > 5, write_exercises(folder)
    (True, [])
    """
    target = require_path("folder", folder)
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"folder={str(folder)!r}: is a file; choose a folder")
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name in exercise_names():
        path = target / file_name(name)
        if not path.exists():
            write_atomically(path, _file(read_page(ROOM + name)).encode())
            written.append(path)
    return written


def check_exercises(folder: str | os.PathLike[str], names: Sequence[str] | None = None) -> list[Result]:
    """Run the check of each exercise on the file in a folder. This executes the files.

    Parameters
    ----------
    folder : path-like
        A folder that `write_exercises` filled.
    names : sequence of str, optional
        The exercises to check; by default all that are in the folder.

    Returns
    -------
    list of Result

    Raises
    ------
    FileNotFoundError
        If the folder has none of them.

    Examples
    --------
    >>> import tempfile
    >>> from xpnet.course import check_exercises, write_exercises
    >>> folder = tempfile.mkdtemp()
    >>> _ = write_exercises(folder)
    >>> check_exercises(folder, ["leaky-relu"])[0].right
    False
    """
    found = [name for name in names or exercise_names() if (require_path("folder", folder) / file_name(name)).is_file()]
    if not found:
        raise FileNotFoundError(f"folder={str(folder)!r}: has no exercise; write them with: xpnet exercises {folder}")
    return [_checked(name, require_path("folder", folder) / file_name(name)) for name in found]


def file_name(name: str) -> str:
    """Return the name of an exercise's file, which can be imported.

    Examples
    --------
    >>> file_name("find-the-bug")
    'find_the_bug.py'
    """
    return name.replace("-", "_") + ".py"


def _file(page: Page) -> str:
    pages = pages_folder()
    (first,) = (i for i, cell in enumerate(page.cells) if "exercise" in cell.tags)
    told = [markdown(cell.source, page.name, pages) for cell in page.cells[:first] if cell.kind == "text"]
    own = file_name(page.name.removeprefix(ROOM))
    told.append(f"Change the code below. The check of this file: xpnet exercises FOLDER --check\n({own} in FOLDER)")
    lines = [f"# {line}".rstrip() for text in told for line in [*text.splitlines(), ""]]
    return "\n".join(lines).rstrip("#\n") + "\n\n" + page.cells[first].source + "\n"


def _checked(name: str, path: Path) -> Result:
    page = read_page(ROOM + name)
    names: dict[str, Any] = {"__name__": name}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True), names)
            for cell in _checks(page):
                exec(compile(cell.source, f"the check of {name}", "exec", dont_inherit=True), names)
    except Exception as error:  # a student's code may raise anything
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        return Result(name, False, f"{kind}{error}")
    return Result(name, True, "All right.")


def _checks(page: Page) -> list[Cell]:
    """Return the cell with the check, and the cell that calls it."""
    return [cell for cell in page.cells if cell.tags & {"check", "raises-exception"}]


def report(results: Sequence[Result]) -> str:
    """Return results as text for a terminal.

    Examples
    --------
    >>> print(report([Result("loss", True, "All right."), Result("momentum", False, "velocity is 0")]))
    loss: All right.
    momentum: not yet
        velocity is 0
    1 of 2 are right.
    """
    lines = []
    for result in results:
        lines.append(f"{result.name}: {'All right.' if result.right else 'not yet'}")
        if not result.right:
            lines.append(textwrap.indent(result.message, "    "))
    right = sum(result.right for result in results)
    return "\n".join([*lines, f"{right} of {len(results)} are right."])
