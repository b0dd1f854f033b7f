"""The directive ``source``: functions and methods as they stand in the package, without their docstrings.

Sphinx's own ``literalinclude`` with ``:pyobject:`` would show the docstrings too, which are the reference and three
times as long as what they describe. What is shown is read when the site is built, so that it cannot drift; a name that
is gone is an error.
"""

import ast
import importlib
import inspect
import textwrap

from docutils import nodes
from sphinx.directives.code import container_wrapper
from sphinx.util.docutils import SphinxDirective


def without_docstring(code: str) -> str:
    """Take the docstring out of the source of a function or class, and those of its methods."""
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None and node.body[1:]:
            start, stop = node.body[0].lineno - 1, node.body[0].end_lineno
            lines[start:stop] = [None] * (stop - start)
    text = "\n".join(line for line in lines if line is not None)
    # Where a docstring stood apart from what follows, the empty line would come first.
    return text.replace(":\n\n", ":\n")


class Source(SphinxDirective):
    """``{source} module`` with a name, such as ``dense`` or ``Adam.update``, on each line."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        pieces = []
        for name in self.content:
            found = module
            for part in name.split("."):
                found = getattr(found, part)
            pieces.append(without_docstring(textwrap.dedent(inspect.getsource(found))))
        self.env.note_dependency(inspect.getsourcefile(module))
        code = "\n\n\n".join(pieces)
        block = nodes.literal_block(code, code, language="python")
        self.set_source_info(block)
        path = "src/" + self.arguments[0].replace(".", "/") + ".py"
        return [container_wrapper(self, block, f"`{path}`")]


def setup(app):
    app.add_directive("source", Source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
