"""The figure that draws itself in a notebook. Imports matplotlib: only functions that draw import this."""

from __future__ import annotations

import base64
from typing import Any

from matplotlib.figure import Figure

from xpnet.plots import canvas


class XPFigure(Figure):
    """A figure of `xpnet.plots`: any matplotlib figure, which Jupyter shows without ``%matplotlib inline``."""

    def __repr__(self) -> str:
        """Say what is on it."""
        return canvas.alt_text(self) or super().__repr__()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw the figure for Jupyter: as HTML, whose ``alt`` every frontend keeps, and as a plain image besides."""
        png = base64.b64encode(canvas.render(self, "png")).decode()
        width, height = (round(100 * inches) for inches in self.get_size_inches())
        shown = {"alt": canvas.alt_text(self), "width": width, "height": height}
        tag = canvas.image_tag(png, canvas.alt_text(self), width)
        return {"text/html": tag, "image/png": png, "text/plain": repr(self)}, {"image/png": shown}
