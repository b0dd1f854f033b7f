"""Ten photographs of digits, drawn with different tools: python docs/photographs.py draws them for the how-to.

Each is off the centre, and most are slanted, shadowed or light on dark, as photographs are. `answers` predicts for each
before and after the preprocessing.
"""

import io
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image

import xpnet
from xpnet.data import load_image, prepare_digit
from xpnet.runs.checkpoint import load_arrays

STATIC = Path(__file__).parent / "_static"

# The strokes of each digit, in a square from 0 to 1: points that a smooth line goes through.
STROKES = {
    0: [[(0.55, 0.05), (0.25, 0.2), (0.15, 0.55), (0.35, 0.93), (0.68, 0.85), (0.82, 0.45), (0.7, 0.12), (0.5, 0.06)]],
    1: [[(0.35, 0.25), (0.52, 0.05)], [(0.52, 0.05), (0.5, 0.5), (0.47, 0.95)]],
    2: [[(0.2, 0.25), (0.4, 0.06), (0.72, 0.15), (0.68, 0.45), (0.4, 0.72), (0.18, 0.92)], [(0.18, 0.92), (0.8, 0.9)]],
    3: [[(0.22, 0.12), (0.6, 0.06), (0.7, 0.28), (0.42, 0.47)], [(0.42, 0.47), (0.78, 0.6), (0.68, 0.9), (0.2, 0.9)]],
    4: [[(0.42, 0.05), (0.3, 0.3), (0.15, 0.6)], [(0.15, 0.6), (0.85, 0.58)], [(0.68, 0.3), (0.64, 0.65), (0.6, 0.97)]],
    5: [
        [(0.75, 0.08), (0.3, 0.1)],
        [(0.3, 0.1), (0.26, 0.45)],
        [(0.26, 0.45), (0.6, 0.38), (0.78, 0.65), (0.58, 0.92), (0.2, 0.88)],
    ],
    6: [[(0.65, 0.05), (0.35, 0.3), (0.2, 0.65), (0.38, 0.93), (0.68, 0.85), (0.7, 0.6), (0.45, 0.52), (0.24, 0.7)]],
    7: [[(0.15, 0.1), (0.5, 0.12), (0.82, 0.08)], [(0.82, 0.08), (0.6, 0.5), (0.42, 0.97)]],
    8: [
        [
            (0.65, 0.15),
            (0.4, 0.06),
            (0.3, 0.25),
            (0.52, 0.46),
            (0.74, 0.7),
            (0.55, 0.94),
            (0.28, 0.8),
            (0.42, 0.52),
            (0.7, 0.28),
            (0.65, 0.15),
        ]
    ],
    9: [
        [(0.7, 0.2), (0.45, 0.06), (0.25, 0.25), (0.4, 0.46), (0.68, 0.35), (0.71, 0.18)],
        [(0.71, 0.18), (0.68, 0.6), (0.58, 0.96)],
    ],
}


def line_of(stroke, steps=60):
    """Return many points on a smooth line through a few (Catmull and Rom's spline)."""
    p = np.asarray([stroke[0], *stroke, stroke[-1]], dtype=float)
    t = np.linspace(0, 1, steps)[:, None]
    pieces = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
    ]
    return np.concatenate(pieces)


def ink_of(digit, shape, *, at, size, width, degrees=0.0, taper=0.0):
    """Return how much ink there is on a page, from 0 to 1: the strokes of a digit, turned, with a round tip."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    turn = np.radians(degrees)
    ink = np.zeros(shape)
    for stroke in STROKES[digit]:
        points = line_of(stroke) - 0.5
        points = points @ np.asarray([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        for share, (across, down) in zip(np.linspace(0, 1, len(points)), size * points + at, strict=True):
            r = width / 2 * (1 - taper * share)
            near = np.s_[
                max(0, int(down - r - 3)) : int(down + r + 4), max(0, int(across - r - 3)) : int(across + r + 4)
            ]
            tip = np.clip(r + 0.5 - np.hypot(y[near] - down, x[near] - across), 0, 1)
            ink[near] = np.maximum(ink[near], tip)
    return ink


def mixed(ink, paper, colour):
    """Return a page: paper where there is no ink, and a colour where there is."""
    paper = paper if np.ndim(paper) == 3 else np.ones((*ink.shape, 1)) * np.asarray(paper, dtype=float)
    return paper * (1 - ink[..., None]) + np.asarray(colour, dtype=float) * ink[..., None]


def as_bytes(page, rng, noise=3.0):
    """Add the noise of a camera, and round to bytes."""
    return np.rint(np.clip(page + rng.normal(0, noise, page.shape), 0, 255)).astype(np.uint8)


def photographs():
    """Return ten pairs: the tool, and the picture of the digit of that place."""
    rng = np.random.default_rng(7)
    down, across = np.mgrid[:320, :240] / 320
    pencil = as_bytes(
        mixed(0.8 * ink_of(0, (320, 240), at=(80, 110), size=120, width=4), (244, 243, 238), (70, 70, 75)), rng
    )
    felt = as_bytes(
        mixed(ink_of(1, (320, 240), at=(170, 230), size=150, width=22, degrees=12), (250, 250, 250), (15, 15, 20)), rng
    )
    lines = np.ones((320, 240, 3)) * (248, 248, 244)
    lines[20::32] = (205, 215, 235)
    ballpoint = as_bytes(
        mixed(ink_of(2, (320, 240), at=(150, 90), size=130, width=5, degrees=-10), lines, (30, 40, 140)), rng
    )
    grain = rng.random((320, 240)) > 0.2
    chalk = as_bytes(
        mixed(
            ink_of(3, (320, 240), at=(90, 200), size=170, width=12, degrees=8) * grain, (38, 52, 46), (225, 225, 220)
        ),
        rng,
    )
    glare = (1 - 0.55 * across)[..., None]
    marker = as_bytes(
        glare * mixed(ink_of(4, (320, 240), at=(120, 190), size=150, width=10), (235, 238, 240), (190, 30, 40)), rng
    )
    brush = as_bytes(
        mixed(
            ink_of(5, (320, 240), at=(140, 150), size=180, width=26, degrees=18, taper=0.6),
            (240, 232, 214),
            (25, 22, 20),
        ),
        rng,
    )
    mist = rng.random((320, 240)) < 0.75 * ink_of(6, (320, 240), at=(100, 170), size=160, width=26, degrees=-15)
    spray = as_bytes(mixed(mist * 1.0, (190, 186, 180), (30, 60, 40)), rng)
    crayon = as_bytes(
        mixed(
            ink_of(7, (320, 240), at=(130, 220), size=140, width=13, degrees=-22) * grain,
            (250, 224, 120),
            (120, 40, 30),
        ),
        rng,
    )
    program = np.zeros((320, 240, 4), np.uint8)
    program[..., 3] = 255 * (ink_of(8, (320, 240), at=(70, 80), size=110, width=9, degrees=6) > 0.5)
    page = mixed(ink_of(9, (320, 240), at=(150, 200), size=90, width=7, degrees=14), (236, 234, 230), (50, 50, 60))
    page *= np.where(across + 0.3 * down > 0.62, 0.6, 1.0)[..., None]
    table = np.pad(page, ((30, 30), (40, 20), (0, 0)), constant_values=62)
    compressed = io.BytesIO()
    Image.fromarray(as_bytes(table, rng)).save(compressed, "JPEG", quality=45)
    return [
        ("pencil, small, in a corner", pencil),
        ("felt pen, thick", felt),
        ("ballpoint pen on lined paper", ballpoint),
        ("chalk on a blackboard", chalk),
        ("red marker, with a glare", marker),
        ("brush, turned by 18 degrees", brush),
        ("spray can on a wall", spray),
        ("crayon, turned by 22 degrees", crayon),
        ("a paint program, transparent", program),
        ("a phone: shadow, table, JPEG", np.asarray(Image.open(compressed))),
    ]


def network():
    """Return the network of the page to draw on, which was trained on MNIST."""
    arrays, meta = load_arrays(STATIC / "draw.safetensors")
    return xpnet.TrainedNetwork.from_named(
        xpnet.Network.from_config(meta["network"]), arrays, xpnet.get_backend("numpy")
    )


def resized(picture):
    """Do what one would try first: shrink the picture to 28 by 28 pixels."""
    grey = Image.fromarray(np.rint(255 * load_image(picture)).astype(np.uint8))
    return np.asarray(grey.resize((28, 28), Image.Resampling.BOX))


def answers():
    """Return for each photograph its tool, its digit, and what is predicted after shrinking and after preparing it."""
    taken, model = photographs(), network()
    before = model.predict(np.stack([resized(picture) for _, picture in taken]))
    after = model.predict(np.stack([prepare_digit(picture) for _, picture in taken]))
    return [(tool, digit, int(before[digit]), int(after[digit])) for digit, (tool, _) in enumerate(taken)]


def sheet():
    """Draw the ten photographs, and under each what the network is shown of it."""
    from matplotlib.figure import Figure

    rows = answers()
    figure = Figure(figsize=(8.2, 8.2))
    axes = figure.subplots(4, 5, gridspec_kw={"hspace": 0.3, "wspace": 0.12, "height_ratios": [1.3, 1, 1.3, 1]})
    for (tool, digit, before, after), (_, picture) in zip(rows, photographs(), strict=True):
        top, below = axes[2 * (digit // 5), digit % 5], axes[2 * (digit // 5) + 1, digit % 5]
        top.imshow(picture, vmin=0, vmax=255)
        top.set_title(textwrap.fill(tool, 20), fontsize=8.5)
        below.imshow(prepare_digit(picture), cmap="gray", vmin=0, vmax=255)
        below.set_title(f"before: {before}, after: {after}", fontsize=8.5)
        top.axis("off")
        below.axis("off")
    return figure


if __name__ == "__main__":
    for row in answers():
        print(row)
    sheet().savefig(STATIC / "photographs.png", dpi=110, bbox_inches="tight")
