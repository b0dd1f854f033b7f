"""The pages of the documentation as text and code cells.

Pages are written in MyST Markdown. This package reads the subset that they use: code cells with tags, directives in
three backticks or colons, roles, and links between pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "pages"
"""The folder of the pages in the installed package. In a clone they are in ``docs``."""

RUNNABLE = "file_format: mystnb"
"""A line in the head of every page that has code to run."""


@dataclass(frozen=True)
class Cell:
    """A piece of a page.

    Attributes
    ----------
    kind : {"text", "code"}
    source : str
        MyST Markdown or Python code.
    tags : frozenset of str
        The tags of a code cell, such as ``"solution"``.
    """

    kind: str
    source: str
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Page:
    """A page that has code to run.

    Attributes
    ----------
    name : str
        The path without the suffix, such as ``"mathematics/dense"``.
    title : str
        The first heading.
    cells : tuple of Cell
    """

    name: str
    title: str
    cells: tuple[Cell, ...]


def pages_folder() -> Path:
    """Return the folder with the pages, in the installed package or in this file's clone.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    """
    clone = Path(__file__).parents[3] / "docs"
    for folder in (FOLDER, clone):
        if (folder / "tutorial.md").is_file():
            return folder
    raise FileNotFoundError(f"the pages are neither in {FOLDER} nor in {clone}: install xpnet again")


def runnable_pages(folder: Path | None = None) -> list[str]:
    """List the names of the pages that have code to run.

    Examples
    --------
    >>> from xpnet.course import runnable_pages
    >>> "tutorial" in runnable_pages(), "mathematics/dense" in runnable_pages()
    (True, True)
    """
    folder = folder or pages_folder()
    found = [path for path in folder.rglob("*.md") if not path.relative_to(folder).parts[0].startswith("_")]
    runnable = [path for path in found if RUNNABLE in path.read_text(encoding="utf-8")[:200]]
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in runnable)


def read_page(name: str, folder: Path | None = None) -> Page:
    """Read a page.

    Parameters
    ----------
    name : str
        A name from `runnable_pages`.
    folder : path, optional
        The folder of the pages; by default that of this package.

    Examples
    --------
    >>> from xpnet.course import read_page
    >>> page = read_page("mathematics/dropout")
    >>> page.title, page.cells[0].kind
    ('Dropout', 'text')
    """
    text = ((folder or pages_folder()) / f"{name}.md").read_text(encoding="utf-8")
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    title = re.search(r"^# (.+)$", body, re.MULTILINE)
    return Page(name, title[1] if title else name, tuple(_cells(body)))


def _cells(body: str) -> Iterator[Cell]:
    """Split a page at its code cells."""
    parts = re.split(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", body, flags=re.MULTILINE | re.DOTALL)
    for i, part in enumerate(parts):
        if i % 2:
            yield _code_cell(part)
        elif part.strip():
            yield Cell("text", part.strip("\n"))


def _code_cell(block: str) -> Cell:
    """Separate the options of a code cell, which are lines that begin with a colon or a block between dashes."""
    head = re.match(r"---\n.*?^---\n|(?::[\w-]+:[^\n]*\n)*", block, re.MULTILINE | re.DOTALL)
    options = head[0] if head else ""
    tags = re.search(r"tags: \[([^\]]*)\]", options)
    names = (tag.strip() for tag in tags[1].split(",")) if tags else ()
    return Cell("code", block[len(options) :].strip("\n"), frozenset(names))
