"""On the pages for learners, the first use of each of the glossary's words links to it."""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

PAGES = re.compile(r"tutorial|one-page|portable|ladder|does-not-learn|generalization|quickstart|mathematics/.*")
NOT_IN = (nodes.reference, nodes.literal, nodes.title, nodes.math, nodes.caption, addnodes.pending_xref, nodes.table)


def terms(glossary):
    """Return the words of a glossary in lower case, the longest first, each with its own spelling.

    Examples
    --------
    >>> terms("```{glossary}\\nloss\\n  A number.\\n\\nloss function\\n  A function.\\n```")
    {'loss function': 'loss function', 'loss': 'loss'}
    """
    blocks = re.findall(r"^```\{glossary\}\n(.*?)^```$", glossary, re.MULTILINE | re.DOTALL)
    found = [line for block in blocks for line in block.splitlines() if re.match(r"\S", line)]
    return {term.lower(): term for term in sorted(found, key=len, reverse=True)}


def link(app, doctree):
    """Replace the first use of each word in a paragraph by a link."""
    if not PAGES.fullmatch(app.env.docname):
        return
    words = terms((Path(app.srcdir) / "glossary.md").read_text(encoding="utf-8"))
    for used in doctree.findall(addnodes.pending_xref):
        if used.get("reftype") == "term":
            words.pop(used["reftarget"].lower(), None)
    for text in list(doctree.findall(nodes.Text)):
        if words and not _within(text, NOT_IN) and _within(text, (nodes.paragraph,)):
            text.parent.replace(text, _linked(str(text), words, app.env.docname))


def _within(node, kinds):
    while node is not None and not isinstance(node, kinds):
        node = node.parent
    return node is not None


def _linked(text, words, page):
    """Return a text's nodes, and take the words that they link to away from those to come."""
    pattern = rf"\b({'|'.join(map(re.escape, words))})(e?s)?\b"
    for match in re.finditer(pattern, text, re.IGNORECASE):
        term = words.pop(match[1].lower())
        # In the form of the role {term}`...`.
        target = addnodes.pending_xref(
            "", nodes.inline(match[0], match[0], classes=["xref", "std", "std-term"]),
            refdomain="std", reftype="term", reftarget=term, refexplicit=True, refwarn=True, refdoc=page,
        )  # fmt: skip
        after = text[match.end() :]
        return [
            nodes.Text(text[: match.start()]),
            target,
            *(_linked(after, words, page) if words else [nodes.Text(after)]),
        ]
    return [nodes.Text(text)]


def setup(app):
    app.connect("doctree-read", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
