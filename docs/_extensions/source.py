"""The directive ``source``: functions and methods as they stand in the package, without their docstrings.

Sphinx's own ``literalinclude`` with ``:pyobject:`` would show the docstrings too, which are the reference and three
times as long as what they describe. The code is read when the site is built, so that it cannot drift; a name that
is gone is an error.

Each block links to its names in the reference, and a page of the reference links to the page that derives its object.
"""

import importlib
import inspect
import re
from pathlib import Path, PurePosixPath

from docutils import nodes
from sphinx.directives.code import container_wrapper
from sphinx.util.docutils import SphinxDirective

from xpnet.course.source import source_of

GENERATED = "reference/generated/"
DERIVED = '<p class="derivation">Derived in <a class="reference internal" href="{up}{page}.html">{title}</a>.</p>'


class Source(SphinxDirective):
    """``{source} module`` with a name, such as ``dense`` or ``Adam.update``, on each line."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        module = self.arguments[0]
        code = source_of(module, list(self.content))
        self.env.note_dependency(inspect.getsourcefile(importlib.import_module(module)))
        block = nodes.literal_block(code, code, language="python")
        self.set_source_info(block)
        caption = "`src/" + module.replace(".", "/") + ".py`"
        places = dict.fromkeys(
            self.config.reference_names.get(f"{module}.{name.partition('.')[0]}") for name in self.content
        )
        links = [f"{{py:obj}}`{place.rpartition('.')[2]} <{place}>`" for place in places if place]
        return [container_wrapper(self, block, caption + (": " + ", ".join(links)) * bool(links))]


def listed(reference):
    """Map where an object is defined to the name that the tables of the reference list it under."""
    names, module = {}, None
    for page in sorted(reference.glob("*.md")):
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"\.\. currentmodule:: (\S+)$", line):
                module = match[1]
            elif match := re.match(r"   (\w+)$", line):
                found = getattr(importlib.import_module(module), match[1])
                names[f"{found.__module__}.{match[1]}"] = f"{module}.{match[1]}"
    return names


def derivations(chapter, names):
    """Map a name of the reference to the page of a chapter that shows its source first, and the page's title."""
    found = {}
    for page in sorted(chapter.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
        for module, block in re.findall(r"^```\{source\} (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            for name in block.split():
                place = names.get(f"{module}.{name.partition('.')[0]}")
                found.setdefault(place, (f"{chapter.name}/{page.stem}", title))
    return found


def start(app, config):
    """Read the tables of the reference and the pages of the mathematics; link types to their classes."""
    docs = Path(app.confdir)
    config.reference_names = listed(docs / "reference")
    config.derivations = derivations(docs / "mathematics", config.reference_names)
    places = config.reference_names.values()
    # In place of numpydoc's own, which lead to Python's documentation: the build opens no connection.
    classes = {name: place for place in places if (name := place.rpartition(".")[2])[0].isupper()}
    config.numpydoc_xref_aliases_complete = classes


def link(app, pagename, templatename, context, doctree):
    """Link a page of the reference to the derivation of what it describes."""
    found = app.config.derivations.get(pagename.removeprefix(GENERATED))
    if pagename.startswith(GENERATED) and found and "body" in context:
        page, title = found
        up = "../" * (len(PurePosixPath(pagename).parts) - 1)
        line = DERIVED.format(up=up, page=page, title=title)
        context["body"] = re.sub(r"</h1>", lambda end: f"{end[0]}\n{line}", context["body"], count=1)


def setup(app):
    app.add_directive("source", Source)
    app.add_config_value("reference_names", {}, "")
    app.add_config_value("derivations", {}, "")
    app.connect("config-inited", start)
    app.connect("html-page-context", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
