"""A page to draw digits on, which a network answers: one HTML file, without a server and without requests.

The page reads ``model.safetensors`` as it is and runs the network forward in a script of its own, `network.js`.
`drawing.js` makes an image of strokes by the steps of `xpnet.data.prepare_digit`.
"""

from __future__ import annotations

import base64
import html
import string
from importlib import resources

from xpnet.export.plain import KINDS, ExportError, image_shape
from xpnet.nn.network import Network

KNOWN = {kind.__name__ for kind in KINDS} | {"CoinDropout", "TutorialReLU", "TutorialDropout"}
"""The layers that ``network.js`` has."""


def check(network: Network) -> None:
    """Check that the page can draw for a network.

    Raises
    ------
    ExportError
        If its images are not square and grey, or one of its layers is not xpnet's.
    """
    shape = image_shape(network)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ExportError(f"a page to draw on needs a network for square grey images; this one's are {shape}")
    for i, layer in enumerate(network.layers):
        if type(layer).__name__ not in KNOWN or not type(layer).__module__.startswith("xpnet."):
            raise ExportError(f"layer {i}, {type(layer).__name__}: the page can run the layers of xpnet only")


def fragment(model: bytes, about: str) -> str:
    """Return the page's content, for a place in another page.

    Parameters
    ----------
    model : bytes
        A ``model.safetensors``.
    about : str
        A sentence about the network.
    """
    # Each script is a block of its own: they share names, not tables of exports.
    script = "\n".join(_read(name) for name in ("network.js", "drawing.js", "page.js"))
    return string.Template(_read("fragment.html")).substitute(
        about=html.escape(about), model=base64.b64encode(model).decode(), script=script
    )


def style() -> str:
    """Return the style sheet of `fragment`."""
    return _read("style.css")


def page(model: bytes, about: str) -> str:
    """Return a whole page; see `fragment`."""
    template = string.Template(_read("page.html"))
    return template.substitute(style=style(), fragment=fragment(model, about))


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
