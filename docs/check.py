"""Walk a built site: python docs/check.py docs/_build/html

Nothing may lead nowhere, no page may fetch anything from another host, and every page has a title, one first heading
and words for each picture. Prints what is wrong, and fails if anything is.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

GENERATED = {"genindex.html", "search.html", "py-modindex.html"}
"""Pages of Sphinx's own, whose headings are not ours."""


class Page(HTMLParser):
    """What a page has: identifiers, links, resources, and headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links, self.resources = set(), [], []
        self.unnamed_images, self.headings, self.title = [], 0, ""
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids.update(given[key] for key in ("id", "name") if given.get(key))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and not {"canonical", "search", "next", "prev", "index"} & set(given.get("rel", "").split()):
            self.resources.append(given.get("href"))
        elif tag in ("script", "img", "source", "iframe", "audio", "video") and given.get("src"):
            self.resources.append(given["src"])
        if tag == "img" and not (given.get("alt") or "").strip():
            self.unnamed_images.append(given.get("src"))
        self.headings += tag == "h1"
        self._in_title = tag == "title" and not self.title

    def handle_data(self, data):
        if self._in_title:
            self.title, self._in_title = data.strip(), False


def problems(root: Path):
    """Yield a line for each thing that is wrong."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(root.rglob("*.html"))}
    pages = {path: page for path, page in pages.items() if "_static" not in path.relative_to(root).parts}
    if not pages:
        yield f"{root}: there is no page"
    for path, page in pages.items():
        where = path.relative_to(root)
        for image in page.unnamed_images:
            yield f"{where}: no words for the picture {image}"
        if not page.title or page.title.startswith("<"):
            yield f"{where}: no title"
        if page.headings != 1 and where.name not in GENERATED:
            yield f"{where}: {page.headings} first headings"
        for address in page.resources:
            if re.match(r"(https?:)?//", address):
                yield f"{where}: fetches {address}"
        for address in [*page.links, *page.resources]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                yield f"{where}: nothing at {address}"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{where}: no such place: {address}"
    for sheet in sorted(root.rglob("*.css")):
        for address in re.findall(
            r"(?:url\(|@import\s+)[\"']?((?:https?:)?//[^\"')]+)", sheet.read_text(encoding="utf-8")
        ):
            yield f"{sheet.relative_to(root)}: fetches {address}"


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1]).resolve()))
    print("\n".join(found) or "every link leads somewhere, and nothing comes from another host")
    sys.exit(bool(found))
