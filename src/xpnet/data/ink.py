"""Find the ink on a page, and lay it out like MNIST's digits, with NumPy alone.

Each step is short enough to be rewritten in another language. The page that `xpnet.export` writes does so in
JavaScript, and must give the same numbers. Grey levels go from 0, black, to 1, white.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

WORK_SIZE = 200
"""The longer side, in pixels, of the picture in which ink is searched."""

LEAST_CONTRAST = 0.1
"""The least difference between ink and paper, as a share of the paper's brightness."""


def find_ink(grey: Floats) -> Floats | None:
    """Return the amount of ink at each pixel, from 0 to 1, cropped to the ink; None if there is none.

    Parameters
    ----------
    grey : array of float64, shape (height, width)
        The picture, from 0, black, to 1, white.

    Returns
    -------
    array of float64, or None

    Notes
    -----
    1. Shrink the picture by `average_areas` until its longer side is at most `WORK_SIZE`. If its shorter side is
       still above 60 pixels, average over 3 by 3 pixels, against noise.
    2. If the ink is lighter than its surroundings (`ink_is_light`), use ``1 - grey``.
    3. To find the paper, paint over everything narrower than a quarter of the longer side with its surroundings
       (`paint_over`, a morphological closing). Shadows and dark tables are wider, so they count as paper. Ink is
       ``(paper - grey) / max(paper, 0.1)``, because a shadow darkens paper and ink by the same factor.
    4. Separate ink from paper by Otsu's threshold (`otsu`). If the two means differ by less than `LEAST_CONTRAST`,
       there is no ink.
    5. Among the connected pieces above the threshold (`pieces`), leave out frames and specks (`choose`).
    6. The ink of the remaining pieces is ``min(1, ink / (2 * threshold))``; elsewhere it is 0.
    """
    scale = min(1.0, WORK_SIZE / max(grey.shape))
    height, width = (max(1, round(scale * side)) for side in grey.shape)
    grey = average_areas(grey, height, width)
    if min(grey.shape) > 60:
        grey = window_mean(grey, 3)
    window = max(grey.shape) // 4
    if ink_is_light(grey, window):
        grey = 1.0 - grey
    paper = paint_over(grey, window)
    ink = (paper - grey) / np.maximum(paper, 0.1)
    threshold, contrast = otsu(ink)
    if contrast < LEAST_CONTRAST:
        return None
    mask = choose(pieces(ink >= threshold), grey.shape)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    ink = np.where(mask, np.minimum(1.0, ink / (2.0 * threshold)), 0.0)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def lay_out(ink: Floats, size: int, box: int, center: float) -> Floats:
    """Scale ink to a box and put it into a square with its centre of mass in the middle; see `prepare_digit`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.ink import lay_out
    >>> lay_out(np.ones((4, 2)), size=4, box=2, center=1.5)
    array([[0., 0., 0., 0.],
           [0., 0., 1., 0.],
           [0., 0., 1., 0.],
           [0., 0., 0., 0.]])
    """
    height, width = (max(1, round(box * side / max(ink.shape))) for side in ink.shape)
    small = average_areas(ink, height, width)
    small = small / small.max()
    down, across = (
        int(np.clip(round(center - _center_of_mass(small, axis)), 0, size - side))
        for axis, side in enumerate((height, width))
    )
    image = np.zeros((size, size))
    image[down : down + height, across : across + width] = small
    return image


def average_areas(image: Floats, height: int, width: int) -> Floats:
    """Scale an image, where each new pixel is the mean of the old image over its area.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.ink import average_areas
    >>> average_areas(np.asarray([[0.0, 3.0, 6.0]]), 1, 2).tolist()
    [[1.0, 5.0]]
    """
    h, w = image.shape
    return _overlaps(h, height) @ image @ _overlaps(w, width).T


def window_mean(image: Floats, size: int, mode: Any = "edge") -> Floats:
    """Return the mean over a square around each pixel, whose side is ``size``, or one more if that is even.

    Beyond the edges the picture continues with the edge values, or with its reflection without repeating the edge.
    """
    r = size // 2
    padded = np.pad(image, r, mode=mode)
    for axis in (0, 1):
        padded = sliding_window_view(padded, 2 * r + 1, axis=axis).mean(axis=-1)
    return padded


def ink_is_light(grey: Floats, window: int) -> bool:
    """Whether the ink is lighter than the paper, given that ink covers less of its surroundings than paper.

    Each pixel is compared with the mean of the square around it, in units of the standard deviation there, where that
    is at least a fifth of its maximum. If a share p of a square has one value and the rest another, the share lies
    sqrt((1 - p) / p) deviations from the mean. Most of the values beyond 1.3 therefore belong to the ink.
    """
    mean = window_mean(grey, window, "reflect")
    deviation = np.sqrt(np.maximum(window_mean(grey**2, window, "reflect") - mean**2, 1e-6))
    z = np.where(deviation > 0.2 * deviation.max(), (grey - mean) / deviation, 0.0)
    return bool((z > 1.3).sum() > (z < -1.3).sum())


def paint_over(grey: Floats, window: int) -> Floats:
    """Return a picture without dark parts narrower than ``window``: a morphological closing.

    A closing takes the maximum over a square around each pixel, and then the minimum of that over the same square.
    Beyond the edges the picture continues with the edge values.
    """
    r = window // 2
    padded = np.pad(grey, 2 * r, mode="edge")
    return _over_windows(_over_windows(padded, 2 * r + 1, np.max), 2 * r + 1, np.min)


def otsu(values: Floats) -> tuple[float, float]:
    """Return the threshold that best separates values into two classes, and the distance of the classes' means.

    The histogram has 256 bins from 0 to 1; values outside are ignored, and others count as the middle of their bin. The
    classes are split above the first bin at which ``n0 * n1 * (mean1 - mean0)**2`` is largest (Otsu, *A threshold
    selection method from gray-level histograms*, 1979). The threshold lies half-way between their means.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data.ink import otsu
    >>> threshold, contrast = otsu(np.asarray([0.1, 0.1, 0.2, 0.8, 0.9]))
    >>> round(threshold, 3), round(contrast, 2)
    (0.492, 0.72)
    """
    counts, edges = np.histogram(values, 256, (0.0, 1.0))
    middles = (edges[1:] + edges[:-1]) / 2.0
    below, total = np.cumsum(counts), np.cumsum(counts * middles)
    above = below[-1] - below
    low, high = total / np.maximum(below, 1), (total[-1] - total) / np.maximum(above, 1)
    best = int(np.argmax(below * above * (high - low) ** 2))
    return float(low[best] + high[best]) / 2.0, float(high[best] - low[best])


class Piece(NamedTuple):
    """Pixels connected at sides or corners: their indices in the flattened picture, and their bounding box."""

    pixels: list[int]
    top: int
    left: int
    bottom: int
    right: int

    @property
    def side(self) -> int:
        """The longer side of the box."""
        return max(self.bottom - self.top, self.right - self.left) + 1

    def encloses(self, other: Piece) -> bool:
        """Whether the other's box lies inside this one's without touching it."""
        inside = self.top < other.top and self.left < other.left
        return inside and other.bottom < self.bottom and other.right < self.right


def pieces(mask: Mask) -> list[Piece]:
    """Return the connected pieces of a mask."""
    width = mask.shape[1]
    # A border of False gives every pixel eight neighbours.
    todo = np.pad(mask, 1).ravel().tolist()
    row = width + 2
    neighbours = (-row - 1, -row, -row + 1, -1, 1, row - 1, row, row + 1)
    found = []
    for start in np.flatnonzero(np.pad(mask, 1)).tolist():
        if not todo[start]:
            continue
        todo[start] = False
        reached = [start]
        for at in reached:  # the list grows during the loop
            for step in neighbours:
                if todo[at + step]:
                    todo[at + step] = False
                    reached.append(at + step)
        y, x = (np.asarray(place) - 1 for place in np.divmod(reached, row))
        found.append(Piece((y * width + x).tolist(), int(y.min()), int(x.min()), int(y.max()), int(x.max())))
    return found


def choose(found: list[Piece], shape: tuple[int, int]) -> Mask:
    """Return the mask of the pieces that make up the digit.

    The function leaves out, in this order,

    - pieces that touch the picture's edge, if another piece is at least 0.15 of the picture's longer side long;
    - frames: pieces that enclose another of at least 0.2 of their own length;
    - specks: pieces with fewer than 0.08 of the pixels of the largest.
    """
    inner = [p for p in found if p.top > 0 and p.left > 0 and p.bottom < shape[0] - 1 and p.right < shape[1] - 1]
    if inner and max(p.side for p in inner) >= 0.15 * max(shape):
        found = inner
    found = [p for p in found if not any(p.encloses(q) and q.side >= 0.2 * p.side for q in found)]
    most = max(len(p.pixels) for p in found)
    mask = np.zeros(shape[0] * shape[1], dtype=np.bool_)
    for piece in found:
        if len(piece.pixels) >= 0.08 * most:
            mask[piece.pixels] = True
    return mask.reshape(shape)


def _overlaps(old: int, new: int) -> Floats:
    """Return the weight of each old pixel in each new one, shape (new, old)."""
    edges = np.arange(new + 1) * (old / new)
    at = np.arange(old)
    shared = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
    return np.asarray(np.clip(shared, 0.0, 1.0) * (new / old))


def _over_windows(image: Floats, size: int, extreme: Callable[..., Any]) -> Floats:
    for axis in (0, 1):
        image = extreme(sliding_window_view(image, size, axis=axis), axis=-1)
    return image


def _center_of_mass(image: Floats, axis: int) -> float:
    mass = image.sum(axis=1 - axis)
    return float(mass @ np.arange(len(mass)) / mass.sum())
