"""The directive ``source``: functions and methods as they stand in the package, without their docstrings.

Sphinx's own ``literalinclude`` with ``:pyobject:`` would show the docstrings too, which are the reference and three
times as long as what they describe. The code is read when the site is built, so that it cannot drift; a name that
is gone is an error.
"""

import importlib
import inspect

from docutils import nodes
from sphinx.directives.code import container_wrapper
from sphinx.util.docutils import SphinxDirective

from xpnet.course.source import source_of


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
        path = "src/" + module.replace(".", "/") + ".py"
        return [container_wrapper(self, block, f"`{path}`")]


def setup(app):
    app.add_directive("source", Source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
