"""Pages as Jupyter notebooks, with the same code cells, and the text in Jupyter's Markdown."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from xpnet.course.pages import Cell, Page, pages_folder, read_page, runnable_pages
from xpnet.course.source import source_of
from xpnet.files import write_atomically
from xpnet.parts import require_path

DATA = "_static"
"""The folder with the measurements and pictures that pages show."""

SOLUTIONS = "solutions"
"""The folder for the solutions of exercises, which are separate notebooks."""

Notebook = dict[str, Any]


def write_notebooks(folder: str | os.PathLike[str]) -> list[Path]:
    """Write every page that has code as a notebook. Neither writing nor running them needs a connection.

    Parameters
    ----------
    folder : path-like
        The folder, which is created if necessary. Notebooks of the same names are replaced.

    Returns
    -------
    list of Path
        The notebooks. The solutions of exercises are in the folder ``solutions``.

    Raises
    ------
    FileExistsError
        If ``folder`` is a file.

    Examples
    --------
    >>> import tempfile
    >>> from xpnet.course import write_notebooks
    >>> written = write_notebooks(tempfile.mkdtemp())
    >>> sorted(path.name for path in written)[0]
    'activations.ipynb'
    """
    target, pages = require_path("folder", folder), pages_folder()
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"folder={str(folder)!r}: is a file; choose a folder")
    documents: dict[str, Notebook] = {}
    for name in runnable_pages(pages):
        documents |= notebooks_of(read_page(name, pages), pages)
    for path in (pages / DATA).glob("*.*"):
        _write(target / DATA / path.name, path.read_bytes())
    for name, document in documents.items():
        _write(target / f"{name}.ipynb", json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")
    return [target / f"{name}.ipynb" for name in documents]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def notebooks_of(page: Page, pages: Path) -> dict[str, Notebook]:
    """Return the notebook of a page by its name, and that of its solution if it has one."""
    first = next((i for i, cell in enumerate(page.cells) if "solution" in cell.tags), None)
    if first is None:
        return {page.name: notebook(page, page.cells, pages)}
    # The heading above the solution belongs to the solution.
    text, heading, rest = page.cells[first - 1].source.rpartition("\n## ")
    before = [*page.cells[: first - 1], Cell("text", text)]
    own = f"{SOLUTIONS}/{PurePosixPath(page.name).name}"
    before.append(Cell("text", f"A solution is in the notebook `{own}.ipynb`."))
    checks = [cell for cell in page.cells[:first] if cell.kind == "code" and "raises-exception" not in cell.tags]
    opening = Cell("text", f"# {page.title}: a solution\n\nThe task and its check, as in the exercise:")
    after = [opening, *checks, Cell("text", f"{heading.strip()} {rest}"), *page.cells[first:]]
    return {page.name: notebook(page, before, pages), own: notebook(page, after, pages)}


def notebook(page: Page, cells: Any, pages: Path) -> Notebook:
    """Return a notebook with these cells of a page."""
    made = []
    for i, cell in enumerate(cells):
        source = markdown(cell.source, page.name, pages) if cell.kind == "text" else cell.source
        if source.strip():
            made.append(_cell(cell, source, f"{page.name}/{i}"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _cell(cell: Cell, source: str, place: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "cell_type": "markdown" if cell.kind == "text" else "code",
        "id": hashlib.sha256(place.encode()).hexdigest()[:8],
        "metadata": {},
        "source": source.splitlines(keepends=True),
    }
    if cell.kind == "code":
        made |= {"execution_count": None, "outputs": []}
        if "raises-exception" in cell.tags:  # Jupyter continues after an intended error.
            made["metadata"]["tags"] = ["raises-exception"]
        elif cell.tags & {"hide-input", "remove-cell", "remove-input"}:
            made["metadata"]["jupyter"] = {"source_hidden": True}
    return made


# From MyST to the Markdown of notebooks ---------------------------------------------------------------------------


def markdown(text: str, page: str, pages: Path) -> str:
    """Convert MyST to Jupyter's Markdown."""
    text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^```\{(\S+)\} ?([^\n]*)\n(.*?)^```$", lambda m: _directive(m, pages), text, flags=re.M | re.S)
    text = _colon_fences(text)
    text = re.sub(r"\{term\}`([^`<]+?)(?: <[^`]*>)?`", r"\1", text)
    text = re.sub(r"\{[\w:]+\}`~?([^`<]+?)(?: <[^`]*>)?`", r"`\1`", text)
    text = re.sub(r"\[([^\]]*)\]\(((?!https?:)[^)\s]+\.md)(#[^)]*)?\)", lambda m: _link(m, page, pages), text)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def _directive(match: re.Match[str], pages: Path) -> str:
    """Convert a directive in three backticks to Markdown for a notebook."""
    name, argument, body = match[1], match[2].strip(), match[3]
    options = dict(re.findall(r"^:(\w+): (.*)$", body, re.MULTILINE))
    body = re.sub(r"^:[\w-]+:.*\n", "", body, flags=re.MULTILINE).strip("\n")
    if name == "source":
        return f"`{argument}`:\n\n```python\n{source_of(argument, body.split())}\n```"
    if name in ("image", "figure"):
        if "only-dark" in options.get("class", ""):
            return ""  # The variant for light pages is there too.
        return f"![{options.get('alt', '')}]({argument})\n\n{body}"
    if name == "literalinclude":
        path = (pages / "howto" / argument).resolve()
        return f"```python\n{path.read_text(encoding='utf-8').strip()}\n```" if path.is_file() else f"`{argument}`"
    return ""


def _colon_fences(text: str) -> str:
    """Convert admonitions to quotations, or to ``<details>`` if they are folded on the page."""
    lines: list[str] = []
    opened: list[str] = []
    for line in text.splitlines():
        if match := re.match(r":{3,}\{(\w+)\} ?(.*)$", line):
            opened.append("plain" if match[1] == "container" else "quoted")
            if opened[-1] == "quoted":
                lines.append(f"> **{match[2] or match[1].capitalize()}**\n>")
        elif re.match(r":{3,}$", line):
            lines.append("</details>" if opened and opened.pop() == "folded" else "")
        elif opened and re.match(r":(class|name|open): ", line):
            continue
        elif opened and re.match(r":collapsible: ", line):
            opened[-1] = "folded"
            title = lines[-1].removeprefix("> **").removesuffix("**\n>")
            lines[-1] = f"<details><summary>{title}</summary>"
        else:
            lines.append(f"> {line}".rstrip() if "quoted" in opened else line)
    return "\n".join(lines)


def _link(match: re.Match[str], page: str, pages: Path) -> str:
    """Link to the notebook of another page; for a page without one, return only the text."""
    words, target = match[1], match[2]
    path = (pages / page).parent / target
    if not path.is_file():
        return words
    if not words:
        heading = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        words = heading[1] if heading else target
    name = os.path.relpath(path.resolve().with_suffix(""), pages.resolve())
    return f"[{words}]({target[:-3]}.ipynb)" if Path(name).as_posix() in runnable_pages(pages) else words
