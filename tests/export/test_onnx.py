"""ONNX: the model passes the checker, and onnxruntime answers like xpnet."""

import json

import numpy as np
import pytest

import xpnet
from xpnet import Conv2D, Dense, Flatten, Layer, Network, ReLU
from xpnet.cli import main
from xpnet.export import ExportError, to_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def answers(path, images):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(path).run(None, {"images": images})[0]


def test_every_recipe_answers_alike(trained, tmp_path):
    path = tmp_path / "model.onnx"
    to_onnx(trained.network, path)
    images = trained.data.test_images
    ours, theirs = trained.network.logits(images), answers(path, images)
    assert theirs.dtype == np.float32
    assert theirs.shape == ours.shape == (797, 10)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)


@pytest.mark.thorough
def test_every_recipe_answers_alike_on_all_of_mnist(trained_on_mnist, tmp_path):
    path = tmp_path / "model.onnx"
    to_onnx(trained_on_mnist.network, path)
    images = trained_on_mnist.data.test_images
    ours, theirs = trained_on_mnist.network.logits(images), answers(path, images)
    assert ours.shape == (10_000, 10)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)


def test_every_layer_answers_alike(every_layer, colours, tmp_path):
    path = tmp_path / "model.onnx"
    to_onnx(every_layer, path)
    ours, theirs = every_layer.logits(colours.test_images), answers(path, colours.test_images)
    assert np.ptp(ours, axis=0).min() > 0.01  # The outputs depend on the image.
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)


def test_the_graph_is_what_a_reader_expects(digits, tmp_path):
    run = xpnet.train("cnn", dataset=digits.first(50), epochs=1, progress=False)
    path = tmp_path / "model.onnx"
    to_onnx(run.network, path, metadata={"recipe": "cnn"})
    model = onnx.load(path)
    assert [node.op_type for node in model.graph.node] == [
        *["Cast", "Mul", "Reshape", "Transpose"],
        *["Conv", "MaxPool", "Relu", "Conv", "MaxPool", "Relu", "Flatten", "Gemm", "Relu", "Gemm"],
    ]
    assert model.graph.node[4].name == "layers.0.Conv"
    shapes = {array.name: list(array.dims) for array in model.graph.initializer}
    assert shapes["layers.3.weight"] == [32, 16, 3, 3]
    (images,) = model.graph.input
    assert [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim] == ["n", 8, 8]
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert {p.key: p.value for p in model.metadata_props} == {"recipe": "cnn"}


@pytest.mark.parametrize(("pixel_max", "dtype"), [(255, "uint8"), (4095, "uint16"), (1e6, "int32")])
def test_the_input_holds_all_pixels(pixel_max, dtype, tmp_path):
    images = np.random.default_rng(0).integers(0, pixel_max, (8, 3, 5)).astype(dtype)
    data = xpnet.Dataset("bright", images, [0, 1] * 4, images, [0, 1] * 4, classes=2, pixel_max=pixel_max)
    net = Network([Dense(2)], input_shape=(15,), pixel_max=pixel_max)
    run = xpnet.fit(net, data, epochs=1, progress=False)
    to_onnx(run.network, tmp_path / "model.onnx", sample_shape=(3, 5))
    np.testing.assert_allclose(answers(tmp_path / "model.onnx", images), run.network.logits(images), atol=1e-5)


def test_a_subclass_with_the_same_forward_pass_is_exported(digits, tmp_path):
    class Straight(ReLU):
        def gradient(self, *args, **kwargs):
            return super().gradient(*args, **kwargs)

    run = xpnet.fit(Network([Dense(10), Straight()], input_shape=(64,)), digits.first(20), epochs=1, progress=False)
    to_onnx(run.network, tmp_path / "model.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node][-2:] == ["Gemm", "Relu"]


class Twice(ReLU):
    def apply(self, x, xp):
        return 2.0 * x


class Double(Layer):
    pass


@pytest.mark.parametrize("layer", [Twice(), Double()])
def test_a_layer_of_the_users_own_is_named(layer, digits, tmp_path):
    run = xpnet.fit(Network([Dense(10), layer], input_shape=(64,)), digits.first(20), epochs=1, progress=False)
    with pytest.raises(ExportError, match=f"^layer 1, {type(layer).__name__}: has no counterpart"):
        to_onnx(run.network, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_outputs_in_another_order_are_refused(tmp_path):
    net = Network([Conv2D(2, 3), Flatten()], input_shape=(8, 8))  # 72 outputs: 6 by 6 pixels of 2 channels
    start = net.init(np.random.default_rng(0)), net.init_state()
    trained = xpnet.TrainedNetwork(net, *start, xpnet.get_backend("numpy"))
    with pytest.raises(ExportError, match="no Dense layer follows Flatten"):
        to_onnx(trained, tmp_path / "model.onnx")


def test_bad_input_is_one_line(digits, tmp_path):
    net = Network([Dense(10)], input_shape=(64,))
    with pytest.raises(ValueError, match="no weights yet"):
        to_onnx(net, tmp_path / "model.onnx")
    run = xpnet.fit(net, digits.first(20), epochs=1, progress=False)
    with pytest.raises(ExportError, match=r"sample_shape=\(3, 5\): this network takes samples of \(64,\)"):
        to_onnx(run.network, tmp_path / "model.onnx", sample_shape=(3, 5))
    with pytest.raises(ExportError, match=r"must end in \.onnx"):
        to_onnx(run.network, tmp_path / "model.txt")


@pytest.fixture(scope="module")
def run_dir(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    xpnet.train("mlp", dataset=digits, epochs=2, progress=False, output_dir=folder)
    return folder


def test_the_command_writes_the_model(run_dir, digits, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    assert main(["export", str(run_dir), str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": str(run_dir), "file": str(path)}
    facts = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert (facts["recipe"], facts["dataset"]) == ("mlp", "digits")
    predicted = np.argmax(answers(path, digits.test_images), axis=1)
    assert float(facts["test_accuracy"]) == pytest.approx(np.mean(predicted == digits.test_labels))


@pytest.mark.parametrize(
    ("target", "message"),
    [("model.gguf", "must end in .onnx"), ("nowhere/model.onnx", "there is no folder")],
)
def test_the_command_says_what_is_wrong(run_dir, tmp_path, target, message, capsys):
    assert main(["export", str(run_dir), str(tmp_path / target)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert main(["export", str(run_dir), str(tmp_path / "model.onnx")]) == 2
    assert "pip install 'xpnet[onnx]'" in capsys.readouterr().err
