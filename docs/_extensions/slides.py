"""Slides for the lessons of the page `teach`, made of the built pages: no text is written twice.

A row of that page's table is a lesson, and the links of its third column are what is shown: a whole page, the section
that a link leads to, or a page "up to" the section named behind the link. A slide has a section's formulas, code,
output, figures and tables, and the first sentence of each paragraph. The whole paragraphs are the notes, which the key
N shows. A deck is one HTML file that needs nothing but the site around it, and prints one slide a sheet.
"""

import html
import posixpath
import re
from pathlib import Path

from bs4 import BeautifulSoup, Tag

ROOM = 20
"""How many lines a slide has room for, about."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} – slides</title>
<link rel="stylesheet" href="../_static/pygments.css">
<link rel="stylesheet" href="../_static/formulas.css">
<link rel="stylesheet" href="../_static/slides.css">
<script defer src="../_static/slides.js"></script>
</head>
<body>
<main>
{slides}
</main>
</body>
</html>
"""


def lessons(teach):
    """Yield the lessons of the page's first table: the title, the goal, the links of each and how far to read."""
    for row in teach.select("table tbody")[0].select("tr"):
        lesson, goal, read, exercises = row.select("td")
        title = re.sub(r"\s*\(\s*slides\s*\)$", "", lesson.get_text(" ", strip=True))
        yield title, goal, [(link["href"], _until(link)) for link in read.select("a")], exercises


def _until(link):
    match = re.match(r"\s*up to\s*$", str(link.next_sibling or ""))
    return link.find_next("em").get_text() if match else None


def deck(title, goal, shown, exercises):
    """Return the HTML of a lesson; `shown` are pairs of the address of a page and its sections."""
    slides = [slide(title, [f"<p>Afterwards you can {inner(goal)}.</p>"], level=1)]
    for _, sections in shown:
        for section in sections:
            slides += section_slides(section)
    slides.append(slide("Exercises", [f"<p>{inner(exercises)}</p>"]))
    return PAGE.format(title=html.escape(title), slides="\n".join(slides))


def inner(cell):
    """Return the HTML in a cell of a table, without the paragraph around it."""
    return (cell.p or cell).decode_contents()


def section_slides(section):
    """Return a section's slides: as many as its parts need."""
    heading = section.find(["h1", "h2", "h3"], recursive=False)
    made, parts, notes, filled = [], [], [], 0
    for child in section.find_all(True, recursive=False):
        if child is heading or child.name in ("section", "span", "script"):
            continue
        part, lines = shortened(child)
        if not part:
            continue
        if parts and filled + lines > ROOM:
            made.append(slide(_text(heading), parts, notes))
            parts, notes, filled = [], [], 0
        parts.append(part)
        filled += lines
        if child.name == "p":
            notes.append(str(child))
    if parts:
        made.append(slide(_text(heading), parts, notes))
    return made + [one for inner in section.find_all("section", recursive=False) for one in section_slides(inner)]


def shortened(element):
    """Return what a slide shows of an element, and how many lines that takes."""
    classes = set(element.get("class") or ())
    if element.name == "p":
        if "notebook-link" in classes:
            return "", 0
        return f"<p>{first_sentence(element.decode_contents())}</p>", 2
    if classes & {"admonition", "toctree-wrapper"}:
        return "", 0
    if "cell" in classes:
        element = BeautifulSoup(str(element), "html.parser").div
        for hidden in element.select("details"):
            hidden.decompose()
        return (str(element), _lines(element)) if element.get_text(strip=True) or element.img else ("", 0)
    return str(element), _lines(element)


def first_sentence(text):
    """Cut a paragraph's HTML behind its first sentence. A full stop within an element ends none.

    Examples
    --------
    >>> first_sentence("It is <b>0. 5</b> here. And <i>there</i>.")
    'It is <b>0. 5</b> here.'
    """
    depth, found = 0, ""
    for token in re.split(r"(<[^>]*>)", text):
        if token.startswith("<"):
            depth += 0 if token.endswith("/>") or token.startswith("<br") else -1 if token.startswith("</") else 1
        elif depth == 0 and (match := re.search(r"[.?!:](?=\s+([A-Z(]|$))", token)):
            return found + token[: match.end()]
        found += token
    return found


def slide(heading, parts, notes=(), level=2):
    """Return the HTML of one slide."""
    told = f'<aside class="notes" aria-label="notes">{"".join(notes)}</aside>' if notes else ""
    heading = f"<h{level}>{html.escape(heading)}</h{level}>"
    return f'<section class="slide">{heading}\n<div class="fit">{"".join(parts)}</div>{told}</section>'


def _text(heading):
    return re.sub(r"\s*#$", "", heading.get_text()) if heading else ""


def _lines(element):
    pictures = 12 * bool(element.find(["img", "svg"]))
    return (
        pictures
        + sum(block.get_text().count("\n") for block in element.select("pre"))
        + 2 * len(element.select("tr, li, .formula, dt"))
        + 2 * ("formula" in (element.get("class") or ()))
    )


def sections_of(page, fragment, until):
    """Return the sections of a page that a lesson shows."""
    article = page.select_one("article.bd-article")
    if fragment:
        place = article.find(id=fragment)
        return [place if place.name == "section" else place.find_parent("section")]
    (whole,) = article.find_all("section", recursive=False)
    if until:
        inner = whole.find_all("section", recursive=False)
        names = [_text(section.find("h2")) for section in inner]
        for section in inner[names.index(until) + 1 :]:
            section.decompose()
    return [whole]


def read(path, name):
    """Read a built page; its addresses lead on from the folder of the slides."""
    page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    for link in page.select("a.headerlink, .copybtn"):
        link.decompose()
    for dark in page.select("picture.only-dark"):
        dark.decompose()
    for tag in page.find_all(True):
        tag.attrs.pop("id", None) if tag.name != "section" and tag.name != "span" else None
        for key in {"src", "href", "srcset"} & set(tag.attrs):
            if not re.match(r"\w+:|#", tag[key]):
                tag[key] = posixpath.normpath(posixpath.join("..", posixpath.dirname(name), tag[key]))
            elif tag[key].startswith("#"):
                tag[key] = f"../{name}{tag[key]}"
    return page


def make(app, exception):
    """Write a deck for each lesson."""
    out = Path(app.outdir)
    if exception is not None or app.builder.format != "html" or not (out / "teach.html").is_file():
        return
    (out / "slides").mkdir(exist_ok=True)
    teach = BeautifulSoup((out / "teach.html").read_text(encoding="utf-8"), "html.parser")
    for number, (title, goal, links, exercises) in enumerate(lessons(teach), 1):
        shown = []
        for address, until in links:
            name, _, fragment = address.partition("#")
            if (out / name).is_file():
                shown.append((address, sections_of(read(out / name, name), fragment, until)))
        for link in exercises.select("a"):
            link["href"] = "../" + link["href"]
        _strip_ids(shown)
        (out / "slides" / f"lesson-{number}.html").write_text(deck(title, goal, shown, exercises), encoding="utf-8")


def _strip_ids(shown):
    """Take the identifiers away: a deck may show two pages with the same."""
    for _, sections in shown:
        for section in sections:
            for tag in [section, *section.find_all(True)]:
                if isinstance(tag, Tag):
                    tag.attrs.pop("id", None)


def setup(app):
    app.connect("build-finished", make, priority=900)  # After all that changes the pages.
    return {"parallel_read_safe": True, "parallel_write_safe": True}
