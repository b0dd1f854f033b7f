"""Sphinx configuration: MyST pages, whose code cells are executed, and a reference out of the docstrings."""

import hashlib
import os
import re
import sys
from pathlib import Path

import xpnet

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

# Cells run on the bundled digits and draw to memory; a build opens no connection.
os.environ["XPNET_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"

project = "xpnet"
author = "the xpnet developers"
copyright = "the xpnet developers"
version = release = xpnet.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode", "numpydoc"]
extensions += ["sphinx_copybutton"]
extensions += ["mathml", "source", "notebooks", "variants", "slides", "first_uses"]  # Our own, beside this file.
html_math_renderer = "mathml"
exclude_patterns = ["_build"]
templates_path = ["_templates"]
# In docstrings single backticks name an object.
default_role = "py:obj"
add_module_names = False
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
# Of a figure's forms the image: its alternative text is written on the page.
nb_mime_priority_overrides = [("*", "image/svg+xml", 24), ("*", "image/png", 25)]
nb_render_markdown_format = "myst"  # So that what a cell writes may have tables.

autodoc_typehints = "none"  # numpydoc's tables say the types, and shapes with them
autodoc_member_order = "bysource"
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # Words that name no class of xpnet; the extension `source` lists those that do.
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "xpnet"
html_theme_options = {
    "logo": {"text": "xpnet"},
    "navigation_with_keys": True,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
}
html_sidebars = {"index": [], "draw": []}
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_favicon = "_static/favicon.svg"
html_show_sourcelink = False
# What is printed is not to be copied.
copybutton_selector = "div.cell_input pre, div.highlight-sh pre, div.highlight-python pre"


def back_to_the_reference(app, pagename, templatename, context, doctree):
    """Mend the links from the source back to the reference.

    viewcode takes all names of a module to be listed under one package; here some are listed under `xpnet` and others
    under the module itself. The page that a link leads to is named after the object, and knows better.
    """
    if pagename.startswith("_modules/"):
        link = re.compile(r'generated/((?:\w+\.)*(\w+))\.html#(?:\w+\.)*\2((?:\.\w+)*)"')
        context["body"] = link.sub(r'generated/\1.html#\1\3"', context["body"])


def spread_the_work(app, env, docnames):
    """Mix the pages: processes take them in chunks, and those that execute much stand next to each other."""
    docnames.sort(key=lambda name: hashlib.sha256(name.encode()).hexdigest())


SPOKEN = (
    # Arrows that unfold a part of the navigation have no text at all.
    (
        '<summary><span class="toctree-toggle"',
        '<summary aria-label="pages below this one"><span class="toctree-toggle"',
    ),
    # These have, and a label that leaves a part of it out.
    (' aria-label="Toggle hidden content"', ""),
    (
        'search-button-field search-button__button pst-js-only" title="Search" aria-label="Search"',
        'search-button-field search-button__button pst-js-only" title="Search" aria-label="Search Ctrl+K"',
    ),
)
"""What the theme and MyST-NB leave unclear to those who hear a page instead of seeing it: found, replaced by."""


def say_what_is_seen(app, exception):
    """Mend the finished pages."""
    if exception is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            text = before = path.read_text(encoding="utf-8")
            for found, better in SPOKEN:
                text = text.replace(found, better)
            if text != before:
                path.write_text(text, encoding="utf-8")


def setup(app):
    app.connect("env-before-read-docs", spread_the_work)
    app.connect("html-page-context", back_to_the_reference)
    app.connect("build-finished", say_what_is_seen)
