"""Photographs and drawings of a digit, read with Pillow and converted to the format of MNIST.

`load_image` reads any picture as grey levels. `prepare_digit` finds the ink on it (`xpnet.data.ink`) and lays it out
as MNIST was made, so that a network trained on MNIST can read it.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data import ink
from xpnet.data.download import DataError
from xpnet.parts import require_path, require_size

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF")
"""Pillow's names of the accepted formats. Others, such as EPS, would start another program."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".avif")
"""The file name suffixes of these formats."""

MAX_PIXELS = 100_000_000
"""Pictures with more pixels are refused before they are decoded, since a small file can hold a huge picture."""


def load_image(picture: Any) -> NDArray[np.float64]:
    """Read a picture as grey levels.

    Parameters
    ----------
    picture : path-like, PIL.Image.Image or array
        A file in a common format (PNG, JPEG, GIF, BMP, TIFF, WebP, PPM, AVIF), an image that Pillow has opened, or an
        array of shape (height, width), (height, width, 1), (height, width, 3) or (height, width, 4). Arrays hold
        unsigned integers, whose largest value is white, booleans, or floats from 0 to 1. A camera's rotation tag is
        applied. Only the first frame of an animation is read. A transparent background becomes white behind dark ink
        and black behind light ink.

    Returns
    -------
    array of float64, shape (height, width)
        Grey levels from 0, black, to 1, white.

    Raises
    ------
    DataError
        If the picture cannot be read, with the reason.

    Examples
    --------
    >>> from PIL import Image
    >>> from xpnet.data import load_image
    >>> load_image(Image.new("RGB", (3, 2), "white")).round(6).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    if isinstance(picture, str | os.PathLike):
        return _load_file(require_path("picture", picture))
    if hasattr(picture, "convert") and hasattr(picture, "getbands"):
        with _pillow_errors("picture"):
            return _grey_of(_decoded(picture))
    return _grey(_channels(np.asarray(picture)))


def prepare_digit(
    picture: Any, *, size: int = 28, box: int = 20, center: float = 14.0, pixel_max: float = 255.0
) -> NDArray[np.uint8]:
    """Convert a picture of one digit to the format of MNIST.

    Parameters
    ----------
    picture : path-like, PIL.Image.Image or array
        A picture of one digit, dark on light or light on dark, in any position. See `load_image`.
    size, box : int
        The side of the returned image, and the side of the box that the digit is scaled to fit.
    center : float
        The position of the digit's centre of mass, down and across, in pixels from 0.
    pixel_max : float
        The value of full ink, at most 255.

    Returns
    -------
    array of uint8, shape (size, size)
        The digit, light on dark, from 0 to ``pixel_max``.

    Raises
    ------
    DataError
        If the picture cannot be read, or if there is no ink in it.

    Notes
    -----
    `xpnet.data.ink.find_ink` separates the ink from paper, shadows and frames. Then the digit is laid out like the
    images of MNIST (LeCun, Cortes and Burges, *The MNIST database of handwritten digits*, 1998):

    1. Crop the ink to its bounding box.
    2. Scale it, by averaging over areas, so that its longer side is ``box`` and its proportions stay; a side becomes
       ``max(1, round(box * side / longer))``. Averaging gives grey, anti-aliased edges.
    3. Divide by the largest value.
    4. Put it into a black square of side ``size``, moved by whole pixels so that its centre of mass is as close to
       ``center`` as possible without crossing the edge.
    5. Multiply by ``pixel_max`` and round.

    The bundled digits fill their image; use ``size=8, box=8, center=3.5, pixel_max=16`` for them.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data import prepare_digit
    >>> page = np.full((60, 80), 230, dtype=np.uint8)
    >>> page[10:50, 12:18] = 40
    >>> image = prepare_digit(page)
    >>> image.shape, np.flatnonzero(image.any(axis=1)).tolist()[::19], np.flatnonzero(image.any(axis=0)).tolist()
    ((28, 28), [4, 23], [13, 14, 15])
    """
    require_size("size", size)
    if not 1 <= require_size("box", box) <= size:
        raise ValueError(f"box={box!r}: must be at most size={size}")
    found = ink.find_ink(load_image(picture))
    if found is None:
        name = f"{os.fspath(picture)!r}" if isinstance(picture, str | os.PathLike) else "picture"
        raise DataError(f"{name}: there is no ink in it; a digit must stand out from its background")
    image = ink.lay_out(found, size, box, center)
    return np.rint(pixel_max * image).astype(np.uint8)


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file name has the suffix of a picture."""
    return Path(path).suffix.lower() in SUFFIXES


def _load_file(path: Path) -> NDArray[np.float64]:
    import PIL.Image

    with _pillow_errors(str(path)):
        try:
            PIL.Image.init()
            # Pillow may have been built without some of the formats.
            opened = PIL.Image.open(path, formats=[name for name in FORMATS if name in PIL.Image.OPEN])
        except PIL.UnidentifiedImageError:
            raise DataError(f"{path}: {_what_it_is(path)}: save it as PNG or JPEG") from None
        with opened:
            return _grey_of(_decoded(opened))


def _decoded(opened: Any) -> Any:
    """Check the size of a Pillow image, decode it, and return it upright."""
    import PIL.ImageOps

    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} by {height} pixels are more than {MAX_PIXELS:,}: make it smaller")
    opened.load()
    return PIL.ImageOps.exif_transpose(opened)


def _grey_of(image: Any) -> NDArray[np.float64]:
    """Return the grey levels of a Pillow image."""
    if image.mode.startswith(("I", "F")):  # 16 bits and more, which `convert` would cut off at 255
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise DataError("NaN or infinity among its pixels")
        return np.clip(values / max(65535.0, values.max()) if image.mode[0] == "I" else values, 0.0, 1.0)
    transparent = "A" in image.getbands() or "transparency" in image.info
    return _grey(np.asarray(image.convert("RGBA" if transparent else "RGB")) / 255.0)


def _channels(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return a picture's array with values from 0 to 1, shape (height, width, channels)."""
    channels = array[..., None] if array.ndim == 2 else array
    if channels.ndim != 3 or channels.shape[2] not in (1, 3, 4) or array.size == 0 or array.dtype.kind not in "buf":
        raise DataError(
            f"picture: shape {array.shape} of {array.dtype}; must be (height, width) or (height, width, 1, 3 or 4) "
            "of unsigned integers or of floats from 0 to 1"
        )
    if array.dtype.kind == "f":
        if not (array.min() >= 0.0 and array.max() <= 1.0):  # NaN is neither
            raise DataError(f"picture: floats from {array.min()} to {array.max()}; must be from 0 to 1")
        return channels.astype(np.float64)
    return channels / (1.0 if array.dtype.kind == "b" else float(np.iinfo(array.dtype).max))


def _grey(channels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return grey levels; a transparent background becomes white or black, in contrast to the ink."""
    if channels.shape[2] == 1:
        return channels[..., 0]
    grey: NDArray[np.float64] = channels[..., :3] @ np.asarray([0.299, 0.587, 0.114])  # the weights of ITU-R BT.601
    if channels.shape[2] == 3:
        return grey
    alpha = channels[..., 3]
    # The mean over visible pixels. If none is visible, the page is blank on any background.
    seen = (grey * alpha).sum() / max(float(alpha.sum()), 1e-9)
    return grey * alpha + (1.0 if seen < 0.5 else 0.0) * (1.0 - alpha)


def _what_it_is(path: Path) -> str:
    """Describe a file that Pillow does not read."""
    with path.open("rb") as file:
        start = file.read(512)
    if b"<svg" in start or path.suffix.lower() in (".svg", ".svgz"):
        return "an SVG, which is a drawing in words and has no pixels"
    if start[4:8] == b"ftyp":
        return "a picture of a kind that Pillow cannot read here, such as HEIC"
    if start[:4] == b"%PDF" or start[:4] == b"%!PS":
        return "a document, not a picture"
    return "not a picture" if start else "empty"


@contextlib.contextmanager
def _pillow_errors(name: str) -> Iterator[None]:
    """Turn Pillow's errors about damaged or huge files into a `DataError` that names the file."""
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is checked here, and broken metadata do not matter
            yield
    except DataError as error:
        raise error if str(error).startswith(name) else DataError(f"{name}: {error}") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise DataError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except PIL.Image.DecompressionBombError:
        raise DataError(f"{name}: more than {MAX_PIXELS:,} pixels: make it smaller") from None
    except Exception as error:  # decoders raise exceptions of their own: struct.error, zlib.error
        raise DataError(f"{name}: cannot be read: {error}") from None


def are_photos(images: Any, input_shape: tuple[int, ...]) -> bool:
    """Whether images are paths or Pillow images, one or a list, that have to be prepared for a network.

    A Pillow image with the network's number of pixels needs no preparation.
    """
    listed = images if isinstance(images, list | tuple) else [images]

    def is_photo(image: Any) -> bool:
        if hasattr(image, "convert") and hasattr(image, "getbands"):
            return bool(image.size[0] * image.size[1] * len(image.getbands()) != math.prod(input_shape))
        return isinstance(image, str | os.PathLike)

    return bool(listed) and all(is_photo(image) for image in listed)


def images_of(paths: Any, input_shape: tuple[int, ...], pixel_max: float) -> NDArray[np.uint8]:
    """Prepare photographs for a network whose images have the format of MNIST or of the bundled digits.

    Raises
    ------
    DataError
        If the network takes other images, or a picture cannot be read.
    """
    layouts = {784: (28, 20, 14.0), 64: (8, 8, 3.5)}
    numbers = math.prod(input_shape)
    square = len(input_shape) == 1 or input_shape == (math.isqrt(numbers), math.isqrt(numbers), 1)
    if numbers not in layouts or not square or pixel_max > 255:
        raise DataError(
            f"images={str(paths)[:80]!r}: photographs are prepared for digits of 28 by 28 or 8 by 8 pixels, and this "
            f"network takes {input_shape}: make an array of them, see xpnet.data.load_image"
        )
    size, box, center = layouts[numbers]
    listed = paths if isinstance(paths, list | tuple) else [paths]
    return np.stack([prepare_digit(path, size=size, box=box, center=center, pixel_max=pixel_max) for path in listed])
