"""``python -m xpnet`` is ``xpnet``."""

from xpnet.cli import entry

entry()
