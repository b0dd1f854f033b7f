"""Pictures of a network's inside show the numbers that were given."""

import base64
import io
import re
import types
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

import xpnet
from xpnet import Conv2D, Dense, Flatten, Network, ReLU, plots

RNG = np.random.default_rng(5)


def with_weights(network, **arrays):
    """A network with given arrays, and the interface that pictures need."""
    named = {name.replace("_", "."): value for name, value in arrays.items()}
    return types.SimpleNamespace(shapes=network.shapes, named_arrays=lambda: named)


def drawn(figure):
    return [np.asarray(picture.get_array()) for picture in figure.axes[0].images]


# Weights --------------------------------------------------------------------------------------------------------------


def test_the_weights_into_a_unit_are_drawn_where_their_pixels_are():
    weight = RNG.normal(size=(12, 5))
    for shape, size in (((12,), (1, 12)), ((3, 4), (3, 4)), ((3, 4, 1), (3, 4))):
        network = Network([Flatten(), Dense(5)] if len(shape) > 1 else [Dense(5)], shape)
        place = f"layers_{len(network.layers) - 1}_weight"
        pictures = drawn(plots.weights(with_weights(network, **{place: weight}), title="t"))
        assert len(pictures) == 5
        for picture, column in zip(pictures, weight.T, strict=True):
            np.testing.assert_array_equal(picture, column.reshape(size))


def test_weights_on_a_flattened_image_of_colours_are_averaged_over_them():
    # Flatten merges (height, channels, width) in this order.
    weight = RNG.normal(size=(2, 3, 4, 5))
    network = Network([Flatten(), Dense(5)], (2, 4, 3))
    pictures = drawn(plots.weights(with_weights(network, layers_1_weight=weight.reshape(24, 5)), title="t"))
    np.testing.assert_allclose(pictures[2], weight[..., 2].mean(axis=1))


def test_filters_of_a_convolution_are_drawn_channel_by_channel():
    weight = RNG.normal(size=(3, 4, 2, 1))  # (kernel height, filters, kernel width, channels)
    network = Network([ReLU(), Conv2D(4, (3, 2))], (6, 6, 1))
    pictures = drawn(plots.weights(with_weights(network, layers_1_weight=weight), title="t"))
    for k, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture, weight[:, k, :, 0])


def test_a_network_without_weights_has_nothing_to_draw():
    network = Network([ReLU()], (4,))
    with pytest.raises(ValueError, match="no layer has weights"):
        plots.weights(with_weights(network), title="t")


# Feature maps ---------------------------------------------------------------------------------------------------------


def test_each_layers_maps_have_a_scale_of_their_own():
    maps = {"input": np.eye(6), "Conv2D(3, 3)": RNG.normal(size=(4, 5, 3)), "many": RNG.normal(size=(2, 2, 20))}
    figure = plots.feature_maps(maps, title="t", limit=10)
    shown = figure.axes[0].images
    assert len(shown) == 1 + 3 + 10
    for i, picture in enumerate(shown[1:4]):
        np.testing.assert_array_equal(picture.get_array(), maps["Conv2D(3, 3)"][..., i])
        assert picture.get_clim() == (maps["Conv2D(3, 3)"].min(), maps["Conv2D(3, 3)"].max())
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written == ["input", "Conv2D(3, 3)", "many, 10 of 20"]
    figure.draw_without_rendering()
    plots.feature_maps({"flat": np.ones((3, 3))}, title="t").draw_without_rendering()
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.feature_maps({}, title="t")
    with pytest.raises(ValueError, match=r"maps: Dense has shape \(10,\)"):
        plots.feature_maps({"Dense": np.ones(10)}, title="t")


# Predictions ----------------------------------------------------------------------------------------------------------


def test_a_prediction_shows_the_image_and_every_probability():
    p = np.asarray([0.1, 0.25, 0.65])
    figure = plots.prediction(np.eye(4), p, title="mine.png", photo=np.ones((5, 7, 3)), class_names="abc")
    photo, seen, bars = figure.axes
    assert photo.images[0].get_array().shape == (5, 7, 3)
    np.testing.assert_array_equal(seen.images[0].get_array(), np.eye(4))
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], p)
    assert [text.get_text() for text in bars.texts] == ["10%", "25%", "65%"]
    assert [label.get_text() for label in bars.get_yticklabels()] == list("abc")
    colours = [bar.get_facecolor() for bar in bars.patches]
    assert colours[0] == colours[1] != colours[2]
    assert plots.alt_text(figure) == "mine.png. The network sees c, with probability 0.65; then b, with 0.25."
    assert len(plots.prediction(np.eye(4), [1.0], title="t").axes) == 2
    with pytest.raises(ValueError, match=r"probabilities: the shape is \(1, 3\)"):
        plots.prediction(np.eye(4), p[None], title="t")
    with pytest.raises(ValueError, match="class_names: there are 2 for 3 classes"):
        plots.prediction(np.eye(4), p, title="t", class_names="ab")


# Histograms -----------------------------------------------------------------------------------------------------------


def test_a_histogram_tells_mean_spread_zeros_and_what_is_not_finite():
    values = {"Dense(2)": [[-1.0, 1.0], [3.0, 5.0]], "ReLU": [0.0, 0.0, 2.0, np.nan], "lost": [np.inf]}
    figure = plots.histograms(values, title="t")
    told = [ax.texts[0].get_text().split("\n") for ax in figure.axes]
    assert told[0] == ["mean 2", "spread 2.2", "0% zero"]
    assert told[1] == ["mean 0.67", "spread 0.94", "50% zero", "1 not finite"]
    assert told[2] == ["0% zero", "1 not finite"]
    assert [ax.get_yticklabels()[0].get_text() for ax in figure.axes] == list(values)
    figure.draw_without_rendering()
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.histograms({}, title="t")
    with pytest.raises(ValueError, match="values: a has no numbers"):
        plots.histograms({"a": []}, title="t")


# The film -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film():
    data = xpnet.load_dataset("digits")
    film = plots.Film(data, title="mlp <on> digits")
    xpnet.train("mlp", dataset=data, epochs=2, progress=False, callbacks=[film])
    return film


def test_a_frame_holds_what_the_network_knew(film):
    data = xpnet.load_dataset("digits")
    network = xpnet.train("mlp", dataset=data, epochs=2, progress=False).network
    last = film.frames[-1]
    result = xpnet.evaluate(network, data)
    np.testing.assert_array_equal(last.confusion, result.confusion)
    assert last.accuracy == result.accuracy
    np.testing.assert_allclose(last.outputs, network.predict_proba(data.test_images[:3]), rtol=1e-5)
    weight = network.named_arrays()["layers.0.weight"]
    np.testing.assert_array_equal(last.weights[0], weight[:, 0].reshape(8, 8))
    figure = film.figure(0)
    assert "epoch 0: weights" in [ax.get_title(loc="left") for ax in figure.axes]
    assert f"accuracy {film.frames[0].accuracy:.4f}" in plots.alt_text(figure)


def test_an_svg_film_is_whole_and_plays_each_frame_once(film, tmp_path):
    film.save(tmp_path / "film.svg", seconds=0.25)
    text = (tmp_path / "film.svg").read_text()
    root = ET.fromstring(text)
    svg = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{svg}title") == "mlp <on> digits"
    assert root.findtext(f"{svg}desc") == repr(film)
    pictures = root.findall(f"{svg}image")
    assert all(picture.get("href").startswith("data:image/png;base64,") for picture in pictures)
    # The first is on from the start; the second follows, and stands four times as long: 0.25 + 1 seconds in all.
    assert [picture.get("style") for picture in pictures] == ["animation-delay:-1.25s", "animation-delay:-1s"]
    assert "prefers-reduced-motion" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    tag = film._repr_html_()  # as a picture: a notebook that is not trusted strips <svg>
    assert base64.b64decode(re.search('base64,([^"]+)', tag)[1]).decode() == film.to_svg()


def test_a_gif_film_has_a_frame_for_each_epoch(film, tmp_path):
    with plots.style("dark"):
        film.save(tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as image:
        assert image.n_frames == 2
        assert image.info["loop"] == 0
        assert image.convert("RGB").getpixel((1, 1)) == pytest.approx((20, 24, 30), abs=8)
    assert Image.open(io.BytesIO(film.to_gif())).size == (832, 784)


def test_a_film_without_frames_says_so(tmp_path):
    film = plots.Film(xpnet.load_dataset("digits"), title="t")
    assert repr(film) == film._repr_html_() == "Film(t: no frames)"
    with pytest.raises(ValueError, match="the film has no frames"):
        film.save(tmp_path / "film.svg")
    with pytest.raises(ValueError, match=r"must be .svg or .gif"):
        film.save(tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())
