"""A page on which you draw digits and a network recognizes them: one HTML file, without a server or requests.

The page contains ``model.safetensors`` unchanged, and runs the network forward in its own script, `network.js`.
`drawing.js` turns strokes into an image by the steps of `xpnet.data.prepare_digit`.
"""

from __future__ import annotations

import base64
import html
import string
from importlib import resources

from xpnet.export.plain import KINDS, ExportError, image_shape
from xpnet.nn.network import Network

KNOWN = {kind.__name__ for kind in KINDS} | {"CoinDropout", "TutorialReLU", "TutorialDropout"}
"""The layers that ``network.js`` implements."""


def check(network: Network) -> None:
    """Check that the page can run a network.

    Raises
    ------
    ExportError
        If the network's images are not square and grey, or if one of its layers is not xpnet's.
    """
    shape = image_shape(network)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ExportError(f"a page to draw on needs a network for square grey images; this one's are {shape}")
    for i, layer in enumerate(network.layers):
        if type(layer).__name__ not in KNOWN or not type(layer).__module__.startswith("xpnet."):
            raise ExportError(f"layer {i}, {type(layer).__name__}: the page can run the layers of xpnet only")


def fragment(model: bytes, about: str) -> str:
    """Return the page's content, to embed in another page.

    Parameters
    ----------
    model : bytes
        The contents of a ``model.safetensors``.
    about : str
        A sentence about the network.
    """
    # Each script is a block of its own, and they share global names instead of module exports.
    script = "\n".join(_read(name) for name in ("network.js", "drawing.js", "page.js"))
    return string.Template(_read("fragment.html")).substitute(
        about=html.escape(about), model=base64.b64encode(model).decode(), script=script
    )


def style() -> str:
    """Return the style sheet of `fragment`."""
    return _read("style.css")


def page(model: bytes, about: str) -> str:
    """Return a complete page; see `fragment`."""
    template = string.Template(_read("page.html"))
    return template.substitute(style=style(), fragment=fragment(model, about))


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
