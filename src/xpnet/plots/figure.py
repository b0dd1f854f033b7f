"""A figure that displays itself in a notebook. Only functions that draw import this module, which needs matplotlib."""

from __future__ import annotations

import base64
from typing import Any

from matplotlib.figure import Figure

from xpnet.plots import canvas


class XPFigure(Figure):
    """A matplotlib figure that Jupyter shows without ``%matplotlib inline``."""

    def __repr__(self) -> str:
        """Return the description of the figure."""
        return canvas.alt_text(self) or super().__repr__()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw the figure for Jupyter as HTML, whose ``alt`` text every frontend keeps, and as a plain image."""
        png = base64.b64encode(canvas.render(self, "png")).decode()
        width, height = (round(100 * inches) for inches in self.get_size_inches())
        shown = {"alt": canvas.alt_text(self), "width": width, "height": height}
        tag = canvas.image_tag(png, canvas.alt_text(self), width)
        return {"text/html": tag, "image/png": png, "text/plain": repr(self)}, {"image/png": shown}
