"""Eight-bit files: smaller, near to the float one, and refused in one sentence where they cannot be."""

import pytest
import torch

import mtvision as mtv
from mtvision.exporting import read_metadata
from mtvision.exporting.onnx_file import onnx_runner
from mtvision.exporting.quantization import depthwise_layers, last_layers
from small_exports import SIZE, exported_model, noise, require_packages, small_model

require_packages()
import onnx  # noqa: E402

pytestmark = pytest.mark.slow  # an export takes its time


@pytest.fixture(scope="module")
def source():
    return exported_model()[1].path


@pytest.fixture(scope="module", params=["static", "dynamic"])
def quantized(request, source, tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "model.onnx"
    images = {"calibration": noise(6, 50, 70)} if request.param == "static" else {}
    return request.param, mtv.quantize(source, path, method=request.param, **images)


def logits(path):
    value = onnx.helper.make_tensor_value_info("decoded/seg_logits", onnx.TensorProto.FLOAT, None)
    return onnx_runner(path, [value])(noise(2, *SIZE))["decoded/seg_logits"]


def test_the_numbers_stay_near(source, quantized):
    """Eight bits are not exact: the logits must move, but by far less than they vary."""
    expected, found = logits(source), logits(quantized[1].path)
    error = (found - expected).square().mean().sqrt() / expected.std()
    assert 0 < error < 0.2


def test_layers_are_in_eight_bits_but_the_last_ones(source, quantized):
    method, result = quantized
    kinds = [node.op_type for node in onnx.load(result.path).graph.node]
    total = sum(node.op_type == "Conv" for node in onnx.load(source).graph.node)
    assert result.num_layers + result.num_float_layers == total
    assert result.num_layers > result.num_float_layers > 0
    assert kinds.count("ConvInteger") == (result.num_layers if method == "dynamic" else 0)
    assert ("QuantizeLinear" in kinds) == (method == "static")
    assert result.num_bytes == result.path.stat().st_size < source.stat().st_size / 2


def test_the_file_says_that_it_is_quantized(source, quantized):
    method, result = quantized
    assert result.metadata == read_metadata(result.path)
    assert result.metadata.quantization == method
    assert result.metadata.tasks == read_metadata(source).tasks


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_a_file_of_a_fixed_number_of_images_stays_one(method, tmp_path):
    model = small_model(detection_head=None, neck=None)
    fixed = mtv.export(model, tmp_path / "four.onnx", dynamic=False, batch_size=4)
    images = {"calibration": noise(2, 50, 70)} if method == "static" else {}
    result = mtv.quantize(fixed.path, tmp_path / "small.onnx", method=method, **images)
    assert onnx_runner(result.path)(noise(4, *SIZE))["seg_mask"].shape == (4, *SIZE)
    assert result.num_layers + result.num_float_layers > 0


def test_the_file_that_is_read_is_not_written_over(source):
    before = source.read_bytes()
    with pytest.raises(mtv.ConfigError, match=r"out: .* is the file that is read; choose another name"):
        mtv.quantize(source, source.parent / "." / source.name, method="dynamic")
    assert source.read_bytes() == before


def test_it_takes_any_size(quantized):
    found = onnx_runner(quantized[1].path)(noise(3, 70, 100))
    assert found["seg_mask"].shape == (3, 70, 100)
    assert found["det_boxes"].shape == (3, 100, 4)


def test_the_last_layers_are_those_without_another_one_behind():
    """conv -> relu -> conv -> sigmoid, and relu -> product: by hand."""
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="first"),
        node("Relu", ["a"], ["b"], name="between"),
        node("Conv", ["b", "w"], ["c"], name="last"),
        node("Sigmoid", ["c"], ["d"], name="end"),
        node("MatMul", ["b", "w"], ["e"], name="branch"),
    ]
    values = {name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xwde"}
    graph = onnx.helper.make_graph(nodes, "graph", [values["x"], values["w"]], [values["d"], values["e"]])
    assert last_layers(onnx.helper.make_model(graph)) == ["last", "end", "branch"]


def test_convolutions_by_channel_are_those_with_groups():
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="whole", group=1),
        node("Conv", ["a", "w"], ["b"], name="by_channel", group=8),
        node("Conv", ["b", "w"], ["c"], name="plain"),
    ]
    assert depthwise_layers(onnx.helper.make_model(onnx.helper.make_graph(nodes, "graph", [], []))) == ["by_channel"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"method": "statik"}, "method: unknown 'statik'. Did you mean 'static'?"),
        ({}, "calibration: method 'static' needs images"),
        ({"method": "dynamic", "calibration": [1]}, "calibration: method 'dynamic' looks at no images"),
        ({"calibration": [], "num_images": 0}, "num_images: expected at least 1, got 0"),
        ({"calibration": []}, "calibration: there is no image in it"),
    ],
)
def test_a_wrong_argument_is_told(arguments, sentence, source, tmp_path):
    with pytest.raises(mtv.ConfigError) as caught:
        mtv.quantize(source, tmp_path / "out.onnx", **arguments)
    assert str(caught.value).startswith(sentence)
    assert list(tmp_path.iterdir()) == []


def test_a_quantized_file_is_not_quantized_again(quantized, tmp_path):
    with pytest.raises(mtv.MtvisionError, match="is in eight bits already"):
        mtv.quantize(quantized[1].path, tmp_path / "out.onnx", method="dynamic")


def test_samples_of_a_data_set_are_taken(source, tmp_path):
    config = {"data": {"dataset": {"name": "shapes", "num_images": 4, "image_size": 32}}}
    data = mtv.build_dataset(config, "train")
    result = mtv.quantize(source, tmp_path / "out.onnx", calibration=data, num_images=2)
    assert torch.isfinite(logits(result.path)).all()
