"""Every page with code is also a notebook: written beside the site, with a link under the page's title."""

import re
from pathlib import Path, PurePosixPath

from xpnet.course import runnable_pages, write_notebooks

FOLDER = "notebooks"

LINK = '<p class="notebook-link"><a href="{address}" download>This page as a notebook</a></p>'


def write(app):
    """Write the notebooks into a folder that the site takes in as it is."""
    if app.builder.format == "html":
        folder = Path(app.doctreedir) / "extra"
        write_notebooks(folder / FOLDER)
        app.config.html_extra_path.append(str(folder))
        app.env.notebook_pages = set(runnable_pages())


def link(app, pagename, templatename, context, doctree):
    """Put the link under the first heading."""
    if pagename in getattr(app.env, "notebook_pages", ()) and "body" in context:
        up = "../" * (len(PurePosixPath(pagename).parts) - 1)
        line = LINK.format(address=f"{up}{FOLDER}/{pagename}.ipynb")
        context["body"] = re.sub(r"</h1>", lambda end: end[0] + "\n" + line, context["body"], count=1)


def setup(app):
    app.connect("builder-inited", write)
    app.connect("html-page-context", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
