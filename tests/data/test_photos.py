"""Photographs of digits: ink that is found, and pictures that cannot be read."""

import contextlib
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xpnet.data import DataError, load_image, photos, prepare_digit

SEVEN = np.full((60, 50), 235, dtype=np.uint8)
SEVEN[10:15, 12:38] = SEVEN[15:50, 32:38] = 30


def where(image):
    """Return the box of what is not 0."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    return rows[0], rows[-1], columns[0], columns[-1]


def alike(image, other):
    return np.corrcoef(np.ravel(image), np.ravel(other))[0, 1]


# Ink that is found


def test_a_digit_is_laid_out_as_those_of_mnist():
    image = prepare_digit(SEVEN)
    assert (image.shape, image.dtype, image.max()) == ((28, 28), np.uint8, 255)
    top, bottom, left, right = where(image)
    assert bottom - top + 1 == 20
    assert right - left + 1 == 13  # 26 of 40 pixels
    mass = image.astype(float)
    for axis in (0, 1):
        center = np.average(np.arange(28), weights=mass.sum(axis=1 - axis))
        assert abs(center - 14) <= 0.5


def test_a_digit_is_laid_out_as_the_bundled_ones():
    image = prepare_digit(SEVEN, size=8, box=8, center=3.5, pixel_max=16)
    assert (image.shape, image.max()) == ((8, 8), 16)
    assert where(image)[:2] == (0, 7)


def as_file(picture, format="PNG", **how):
    file = io.BytesIO()
    picture.save(file, format, **how)
    return file.getvalue()


def transparent(ink, around):
    """Return ink on a background that is transparent, whatever color it has there."""
    rgba = np.empty((*SEVEN.shape, 4), np.uint8)
    rgba[..., :3] = np.where(SEVEN < 100, ink, around)[..., None]
    rgba[..., 3] = np.where(SEVEN < 100, 255, 0)
    return Image.fromarray(rgba)


GREY = Image.fromarray(SEVEN)
RED_ON_GREEN = np.where((SEVEN < 100)[..., None], np.uint8([200, 30, 30]), np.uint8([150, 250, 160]))
PICTURES = {
    "grey": (GREY, "PNG", {}),
    "RGB": (GREY.convert("RGB"), "PNG", {}),
    "RGBA": (GREY.convert("RGBA"), "PNG", {}),
    "grey with alpha": (GREY.convert("LA"), "PNG", {}),
    "colors": (Image.fromarray(RED_ON_GREEN), "PNG", {}),
    "palette": (GREY.convert("RGB").quantize(4), "PNG", {}),
    "one bit": (GREY.convert("1", dither=Image.Dither.NONE), "PNG", {}),
    "16 bits": (Image.fromarray(SEVEN.astype(np.uint16) * 257), "PNG", {}),
    "16 bits, TIFF": (Image.fromarray(SEVEN.astype(np.uint16) * 257), "TIFF", {}),
    "32 bits": (Image.fromarray(SEVEN.astype(np.int32) * 257), "TIFF", {}),
    "floats": (Image.fromarray(SEVEN.astype(np.float32) / 255), "TIFF", {}),
    "CMYK": (GREY.convert("CMYK"), "JPEG", {"quality": 95}),
    "JPEG": (GREY, "JPEG", {"quality": 95}),
    "GIF": (GREY, "GIF", {}),
    "BMP": (GREY, "BMP", {}),
    "PPM": (GREY.convert("RGB"), "PPM", {}),
    "light on dark": (Image.fromarray(255 - SEVEN), "PNG", {}),
    "black on transparent": (transparent(0, 0), "PNG", {}),
    "black on transparent white": (transparent(0, 255), "PNG", {}),
    "white on transparent": (transparent(255, 255), "PNG", {}),
    "white on transparent black": (transparent(255, 0), "PNG", {}),
    "palette with a transparent color": (GREY.convert("P"), "PNG", {"transparency": 235}),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_picture_gives_the_same_digit(kind, tmp_path):
    picture, format, how = PICTURES[kind]
    expected = prepare_digit(SEVEN)
    path = tmp_path / "picture"
    path.write_bytes(as_file(picture, format, **how))
    for given in (path, str(path), picture):
        assert alike(prepare_digit(given), expected) > 0.99


@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, 1), (8, 3)])
def test_the_rotation_that_a_camera_notes_is_applied(orientation, turn, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # A rotated camera stores a rotated picture, with a tag that says how to rotate it back.
    Image.fromarray(np.rot90(SEVEN, turn)).save(tmp_path / "photo.jpg", quality=95, exif=exif)
    assert load_image(tmp_path / "photo.jpg").shape == SEVEN.shape
    assert alike(prepare_digit(tmp_path / "photo.jpg"), prepare_digit(SEVEN)) > 0.99


@pytest.mark.parametrize(
    "change", [lambda a: a, lambda a: a / 255, lambda a: a[..., None], lambda a: a.astype(">u2") * 257]
)
def test_arrays_are_pictures_too(change):
    np.testing.assert_array_equal(prepare_digit(change(SEVEN)), prepare_digit(SEVEN))


def test_grey_levels():
    colors = np.uint8([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]])
    np.testing.assert_allclose(load_image(colors), [[0.299, 0.587, 0.114, 1.0]])
    assert load_image(np.asarray([[True, False]])).tolist() == [[1.0, 0.0]]
    assert load_image(np.uint16([[65535, 0]])).tolist() == [[1.0, 0.0]]


# Realistic pages: each function changes a page with a dark digit on light paper, from 0 to 255


def light_of(page, factor):
    down, across = (np.linspace(0, 1, n) for n in page.shape)
    return page * factor(down[:, None], across[None, :])


def with_border(page, width, level):
    return np.pad(page, width, constant_values=level)


def with_box(page):
    page = with_border(page, 30, 235)
    for edge in (page[24:29, 24:-24], page[-29:-24, 24:-24], page[24:-24, 24:29], page[24:-24, -29:-24]):
        edge[...] = 50
    return page


PAGES = {
    "clean": lambda page: page,
    "shadow, even": lambda page: light_of(page, lambda y, x: 1 - 0.65 * x + 0 * y),
    "shadow, diagonal": lambda page: light_of(page, lambda y, x: 1 - 0.35 * (x + y)),
    "shadow, soft edge": lambda page: light_of(page, lambda y, x: 1 - 0.55 / (1 + np.exp(-20 * (x + 0.3 * y - 0.65)))),
    "shadow, hard edge": lambda page: light_of(page, lambda y, x: np.where(x + 0.3 * y > 0.65, 0.5, 1.0)),
    "dark corners": lambda page: light_of(page, lambda y, x: 1 - 1.1 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)),
    "frame at the edge": lambda page: with_border(page, 7, 30),
    "thin frame at the edge": lambda page: with_border(page, 2, 30),
    "frame drawn around it": with_box,
    "light frame": lambda page: with_border(0.8 * page, 30, 255),
    "on a dark table": lambda page: with_border(page, 40, 70),
    "shadow and frame": lambda page: with_border(light_of(page, lambda y, x: 1 - 0.6 * x + 0 * y), 7, 30),
    "shadow on a drawn frame": lambda page: light_of(with_box(page), lambda y, x: 1 - 0.6 * x + 0 * y),
}


def page_of(digit, rng):
    """Return a page with an enlarged MNIST digit in a random place."""
    side = int(rng.integers(110, 180))
    ink = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)) / 255
    page = np.full((300, 220), 235.0)
    top, left = rng.integers(5, 295 - side), rng.integers(5, 215 - side)
    page[top : top + side, left : left + side] -= 195 * ink
    return page + rng.normal(0, 4, page.shape)


@pytest.mark.parametrize("kind", PAGES)
def test_digits_are_found_on_a_page(kind, mnist):
    """A digit on a page comes back nearly unchanged, at least 38 times of 40; every other page is inverted."""
    rng = np.random.default_rng(4)
    good = 0
    for i, digit in enumerate(mnist.test_images[rng.permutation(10000)[:40]]):
        page = np.rint(np.clip(PAGES[kind](page_of(digit, rng)), 0, 255)).astype(np.uint8)
        good += alike(prepare_digit(255 - page if i % 2 else page), digit) > 0.75
    assert good >= 38


def test_a_speck_is_not_part_of_the_digit():
    page = SEVEN.copy()
    page[54:56, 4:6] = 30
    np.testing.assert_array_equal(prepare_digit(page), prepare_digit(SEVEN))


def test_what_is_far_away_or_large_is_read_alike():
    """From 60 by 50 pixels to 12 million."""
    small = prepare_digit(SEVEN)
    for factor in (2, 9, 70):
        assert alike(prepare_digit(np.kron(SEVEN, np.ones((factor, factor), np.uint8))), small) > 0.97


# Pages without ink, and pictures that cannot be read


BLANK = {
    "white": np.full((40, 30), 255, np.uint8),
    "black": np.zeros((40, 30), np.uint8),
    "one pixel": np.full((1, 1), 200, np.uint8),
    "noise": np.clip(np.random.default_rng(0).normal(220, 8, (300, 200)), 0, 255).astype(np.uint8),
    "a shadow": np.tile(np.linspace(250, 90, 200).astype(np.uint8), (300, 1)),
    "transparent": np.zeros((40, 30, 4), np.uint8),
}


@pytest.mark.parametrize("kind", BLANK)
def test_a_page_without_ink_is_told(kind, tmp_path):
    with pytest.raises(DataError, match=r"^picture: there is no ink in it"):
        prepare_digit(BLANK[kind])
    Image.fromarray(BLANK[kind]).save(tmp_path / "blank.png")
    with pytest.raises(DataError, match=r"blank\.png': there is no ink in it"):
        prepare_digit(tmp_path / "blank.png")


def bomb(width, height):
    """Return a PNG of a few hundred bytes that says it has many pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


PNG = as_file(GREY)
BAD = {
    "empty": (b"", "empty"),
    "words": (b"Please log in", "not a picture: save it as PNG or JPEG"),
    "svg": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG, which is a drawing in words"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(100), "HEIC"),
    "pdf": (b"%PDF-1.7\n", "a document, not a picture"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a document, not a picture"),
    "truncated": (PNG[: len(PNG) // 2], "cannot be read: "),
    "truncated JPEG": (as_file(GREY, "JPEG")[:400], "cannot be read: "),
    "bomb": (bomb(60_000, 60_000), "pixels"),
    "bomb below Pillow's own limit": (bomb(11_000, 11_000), "11000 by 11000 pixels are more than 100,000,000"),
}


@pytest.mark.parametrize("kind", BAD)
def test_files_that_cannot_be_read_are_named_with_the_reason(kind, tmp_path):
    contents, reason = BAD[kind]
    (tmp_path / "photo.png").write_bytes(contents)
    with pytest.raises(DataError, match=f"^{re.escape(str(tmp_path / 'photo.png'))}: .*{re.escape(reason)}") as caught:
        load_image(tmp_path / "photo.png")
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.png: cannot be read: No such file"):
        load_image(tmp_path / "none.png")
    with pytest.raises(DataError, match=f"{tmp_path}: cannot be read: Is a directory"):
        load_image(tmp_path)


def test_every_damaged_byte_gives_a_picture_or_a_data_error(tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "photo"
    for contents in (PNG, as_file(GREY, "JPEG"), as_file(GREY, "GIF"), as_file(GREY, "TIFF"), as_file(GREY, "BMP")):
        for _ in range(60):
            damaged = bytearray(contents)
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            with contextlib.suppress(DataError):
                grey = load_image(path)
                assert grey.ndim == 2
                assert 0 <= grey.min() <= grey.max() <= 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 2), np.uint8), r"shape \(2, 3, 2\) of uint8; must be"),
        (np.zeros((0, 3), np.uint8), r"shape \(0, 3\)"),
        (np.zeros(9, np.uint8), r"shape \(9,\)"),
        (np.zeros((2, 2), np.int64), "of int64; must be"),
        (np.full((2, 2), 200.0), r"floats from 200\.0 to 200\.0; must be from 0 to 1"),
        (np.full((2, 2), np.nan), "floats from nan"),
        (np.full((2, 2), "x"), "<U1"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array, message):
    with pytest.raises(DataError, match=message):
        load_image(array)


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="box=30: must be at most size=28"):
        prepare_digit(SEVEN, box=30)
    with pytest.raises(ValueError, match="size=0"):
        prepare_digit(SEVEN, size=0)


def test_what_ends_as_a_picture_does():
    assert photos.is_picture("Photo.JPG")
    assert photos.is_picture(Path("a/b.png"))
    assert not photos.is_picture("images.npy")


# Ten photographs ------------------------------------------------------------------------------------------------------


def test_photographs_with_ten_tools_are_read(monkeypatch):
    """As the how-to says: shrunk, hardly one of them; prepared, all."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "docs"))
    photographs = pytest.importorskip("photographs")
    rows = photographs.answers()
    assert len(rows) == len({tool for tool, *_ in rows}) == 10
    assert sum(before == digit for _, digit, before, _ in rows) <= 2
    assert [after for *_, after in rows] == list(range(10))
