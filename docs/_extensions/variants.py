"""Figures of executed cells as SVG, each in four variants: light and dark, wide and narrow.

The kernels that execute the pages draw them. A figure that a cell makes by a function of `xpnet.plots` is drawn again
in the dark style; in any other, each colour is replaced by the one of opposite lightness. A figure that is wider than
the pictures of `xpnet.plots` is drawn again at their width, with text of the same size, for phones.

matplotlib writes each variant into a folder, under the hash that MyST-NB gives to the first one. The page then has a
``<picture>`` for each theme in place of an ``<img>``.
"""

import ast
import colorsys
import hashlib
import os
import re
from pathlib import Path, PurePosixPath

FOLDER = "figures"
PLACE = "XPNET_FIGURES"
NARROW = "(max-width: 600px)"
PAPER = "#14181e"
"""The theme's dark background."""
STARTUP = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import variants
variants.install(get_ipython())
sys.path.pop(0)
"""


# In the kernel -------------------------------------------------------------------------------------------------------


def install(shell):
    """Let a kernel draw figures as SVG, and write their variants."""
    svg = shell.display_formatter.formatters["image/svg+xml"]
    svg.for_type_by_name("xpnet.plots.figure", "XPFigure", lambda figure: draw(shell, figure))


def draw(shell, figure):
    """Return a figure as SVG; write its variants."""
    from xpnet.plots import canvas

    light = canvas.render(figure, "svg").decode()
    name = hashlib.sha256(os.linesep.join(light.splitlines()).encode()).hexdigest()
    written = {"dark": drawn_dark(shell, figure) or opposite(light)}
    width, height = figure.get_size_inches()
    if width > canvas.WIDTH + 0.1:
        figure.set_size_inches(canvas.WIDTH, height)
        written["narrow"] = canvas.render(figure, "svg").decode()
        written["narrow-dark"] = opposite(written["narrow"])
        figure.set_size_inches(width, height)
    for variant, text in written.items():
        (Path(os.environ[PLACE]) / f"{name}-{variant}.svg").write_text(text, encoding="utf-8")
    return light


def drawn_dark(shell, figure):
    """Draw a figure again in the dark style, if the cell's last expression drew it."""
    from xpnet import plots
    from xpnet.plots import canvas

    last = ast.parse(shell.user_ns["In"][-1]).body[-1]
    if not (isinstance(last, ast.Expr) and isinstance(last.value, ast.Call)):
        return None
    with plots.style("dark"):
        again = eval(compile(ast.Expression(last.value), "<cell>", "eval"), shell.user_ns)
    return canvas.render(again, "svg").decode() if type(again) is type(figure) else None


def opposite(svg):
    """Replace each colour by the one of opposite lightness, and white paper by none.

    Examples
    --------
    >>> opposite('<svg x="1"><path style="fill: #000000"/>')
    '<svg fill="#ebebeb" x="1"><path style="fill: #ebebeb"/>'
    """
    svg = re.sub(r'(<g id="patch_1">\s*<path [^>]*?)fill: #ffffff', r"\1fill: none", svg, count=1)
    svg = re.sub(r"(?<=: )#([0-9a-f]{6})(?=[;\"])", lambda match: _opposite(match[1]), svg)
    return svg.replace("<svg ", f'<svg fill="{_opposite("000000")}" ', 1)  # Black is not written.


def _opposite(colour):
    if colour == "ffffff":
        return PAPER
    hue, lightness, saturation = colorsys.rgb_to_hls(*(int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)))
    parts = colorsys.hls_to_rgb(hue, 0.92 - 0.84 * lightness, saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


# In the build --------------------------------------------------------------------------------------------------------


def start(app):
    """Let all kernels find `install`, and a folder to write to."""
    if app.builder.format == "html":
        shell, folder = Path(app.doctreedir) / "ipython", Path(app.doctreedir) / "drawn" / FOLDER
        (shell / "profile_default" / "startup").mkdir(parents=True, exist_ok=True)
        (shell / "profile_default" / "startup" / "variants.py").write_text(STARTUP)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["IPYTHONDIR"], os.environ[PLACE] = str(shell), str(folder)
        app.config.html_extra_path.append(str(folder.parent))


def show(app, pagename, templatename, context, doctree):
    """Put pictures in place of images."""
    if PLACE in os.environ and "body" in context:
        folder = Path(os.environ[PLACE])
        up = "../" * (len(PurePosixPath(pagename).parts) - 1) + FOLDER
        image = re.compile(r'<img (?:[^>]*? )?src="[^"]*_images/([0-9a-f]{64})\.svg"[^>]*>')
        context["body"] = image.sub(lambda match: picture(match[0], match[1], folder, up), context["body"])


def picture(image, name, folder, up):
    """Return an image with its variants in HTML."""
    if not (folder / f"{name}-dark.svg").is_file():
        return image

    def variant(image, theme, narrow):
        source = f'<source media="{NARROW}" srcset="{up}/{name}-{narrow}.svg">'
        source *= (folder / f"{name}-{narrow}.svg").is_file()
        return f'<picture class="only-{theme}">{source}{image}</picture>'

    dark = re.sub(r'src="[^"]*"', f'src="{up}/{name}-dark.svg"', image)
    return variant(image, "light", "narrow") + variant(dark, "dark", "narrow-dark")


def setup(app):
    app.connect("builder-inited", start)
    app.connect("html-page-context", show)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
