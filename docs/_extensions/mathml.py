"""Formulas as MathML, made when the site is built: browsers and screen readers know it, and no script is needed.

What a browser does need is a font that says how high a fraction's bar is. Windows and macOS have one, Linux and phones
often do not. So the part of STIX Two Math that formulas use is cut out of the copy that ziamath brings, and put beside
the pages.
"""

import itertools
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from fontTools import subset
from sphinx.util import logging

logger = logging.getLogger(__name__)

# Latin and its accents, Greek, punctuation, super- and subscripts, letter-like symbols, arrows, operators, brackets,
# the bars that stretch, and the alphabet of mathematical italics.
CHARACTERS = [
    *[*range(0x20, 0x100), *range(0x300, 0x340), *range(0x370, 0x400), *range(0x2000, 0x20A0), *range(0x2100, 0x2400)],
    *[*range(0x27C0, 0x27F0), *range(0x27F0, 0x2800), *range(0x2A00, 0x2B00), *range(0x1D434, 0x1D468)],
    *range(0x1D6FC, 0x1D71C),
]

MATHML = "http://www.w3.org/1998/Math/MathML"
APPLY = "\u2061"
"""Stands unseen between a function's name and its argument."""

# What \hat, \bar, \tilde and \dot put over a letter.
ACCENTS = set("\u02c6\u02c9\u02dc\u02d9^~\xaf\u203e")

STYLE = """
@font-face { font-family: "Formulas"; src: url("formulas.woff") format("woff"); font-display: swap; }
math { font-family: "Formulas", math; font-size: 1.08em; }
.bd-content div.formula {
  display: block; margin: 1rem 0; padding: 0.2rem 0; overflow: auto hidden; scrollbar-width: thin; text-align: center;
}
div.formula .eqno { float: right; }
div.formula mtable.cases mtd { padding: 0.1em 0.6em 0.1em 0; text-align: left; }
div.formula mtable.ams-align mtd { padding: 0.3em 0; }
div.formula mtable.ams-align mtd:nth-child(odd) { text-align: right; }
div.formula mtable.ams-align mtd:nth-child(even) { text-align: left; }
"""


def mathml(node: nodes.Element, as_block: bool) -> str:
    try:
        text = tex2mathml(node.astext(), as_block=as_block)
    except (MathError, SyntaxError) as error:
        logger.warning("this formula cannot be turned into MathML: %s: %s", node.astext(), error, location=node)
        return ""
    root = ElementTree.fromstring(text.replace("&ApplyFunction;", APPLY).replace(f' xmlns="{MATHML}"', ""))
    for parent in list(root.iter()):
        lower_indices(parent)
        space_functions(parent)
    root.set("xmlns", MATHML)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def lower_indices(parent: ElementTree.Element) -> None:
    """Put the index of an accented letter behind the letter; docutils puts it below, as if the accent were a limit."""
    if parent.tag == "munderover" and parent[2].text in ACCENTS:
        letter, index, accent = list(parent)
        hat = ElementTree.Element("mover", accent="true")
        hat.extend([letter, accent])
        parent.tag = "msub"
        parent[:] = [hat, index]


def space_functions(parent: ElementTree.Element) -> None:
    """Leave a thin space between a function's name and its argument, as TeX does, unless that is in brackets."""
    for i, (here, after) in reversed(list(enumerate(itertools.pairwise(parent)))):
        if here.tag == "mo" and here.text == APPLY and (after.text or "").strip() not in ("(", "[", "{"):
            parent.insert(i + 1, ElementTree.Element("mspace", width="0.1667em"))


def visit_inline(translator, node):
    translator.body.append(mathml(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator, node):
    number = f'<span class="eqno">({node["number"]})</span>' if node["number"] else ""
    # A formula wider than a phone is scrolled: by touch, or with the keyboard, which has to be able to reach it.
    translator.body.append(f'<div class="formula" tabindex="0" role="group" aria-label="formula">{number}')
    translator.body.append(mathml(node, as_block=True) + "</div>\n")
    raise nodes.SkipNode


def write_static(app):
    if app.builder.format != "html":
        return
    folder = Path(app.doctreedir) / "formulas"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "formulas.css").write_text(STYLE)
    if not (folder / "formulas.woff").exists():
        options = subset.Options(flavor="woff", layout_features=["*"], notdef_outline=True)
        with resources.as_file(resources.files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf") as path:
            font = subset.load_font(path, options)
        cut = subset.Subsetter(options)
        cut.populate(unicodes=CHARACTERS)
        cut.subset(font)
        subset.save_font(font, folder / "formulas.woff", options)
    app.config.html_static_path.append(str(folder))


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.add_css_file("formulas.css")
    # Before the builder looks at the configuration.
    app.connect("builder-inited", write_static)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
