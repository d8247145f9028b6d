"""What cannot be exported is told in one sentence, and nothing is left behind."""

import importlib.util
import json
import sys

import pytest
import torch
from torch import nn

import mtvision as mtv
from mtvision.exporting import checking, exporter, metadata, read_metadata
from mtvision.exporting.network import tracing_size
from mtvision.exporting.onnx_file import require_onnx
from mtvision.layers.normalization import InputNormalization
from mtvision.tasks.segmentation import SegmentationTask
from mtvision.types import FeatureInfo
from small_exports import small_model


class Colours(nn.Module):
    """A backbone of one feature: the image itself."""

    feature_info = (FeatureInfo(3, 1),)

    def forward(self, images):
        return [images]


def tiny(head=None):
    """Pixels to two classes by one product: exported in a moment."""
    torch.manual_seed(0)
    task = SegmentationTask(head or Pointwise(), 2, lambda logits, mask: logits.sum() * 0)
    return mtv.MultiTaskModel(
        Colours(), {"seg": task}, normalization=InputNormalization((0.5,) * 3, (0.25,) * 3), image_size=(8, 8)
    )


class Pointwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)

    def forward(self, features):
        return self.layer(features[0])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"path": "model"}, "path: 'model' does not tell the format; end it with .onnx or .pt2, or give format='onnx'"),
        ({"path": "onnx"}, "path: 'onnx' does not tell the format"),
        ({"format": "onxx"}, "format: unknown 'onxx'. Did you mean 'onnx'?"),
        ({"postprocess": "insde"}, "postprocess: unknown 'insde'. Did you mean 'inside'?"),
        ({"input_type": "float16"}, "input_type: unknown 'float16'. Did you mean 'float32'?"),
        ({"dynamic": "size"}, "dynamic: expected True, False or 'batch', got 'size'"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"batch_size": 4}, "batch_size: with a dynamic batch the file takes any number of images"),
        ({"path": "m.pt2", "opset": 20}, "opset: belongs to format 'onnx', not to 'torch.export'"),
        ({"opset": 11}, "opset: expected at least 18, got 11"),
        ({"image_size": (0, 4)}, "image_size: expected height and width of at least 1 pixel, got 0 x 4"),
        ({"image_size": 0}, "image_size: expected height and width of at least 1 pixel, got 0 x 0"),
        ({"image_size": (256,)}, "image_size: expected one number or (height, width), got (256,)"),
        ({"path": ".", "format": "onnx"}, "path: . is a folder; expected the path of a file"),
        ({"tolerance": -1.0}, "tolerance: expected 0 or more, got -1"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_done(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mtv.ConfigError) as caught:
        mtv.export(tiny(), **{"path": "model.onnx", **arguments})
    assert str(caught.value).startswith(sentence)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(package, tmp_path, monkeypatch):
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else original(name))
    with pytest.raises(mtv.MtvisionError, match=rf"needs the package {package}: pip install 'mtvision\[export\]'"):
        mtv.export(tiny(), tmp_path / "model.onnx")


def test_weights_beyond_the_limit_of_onnx_are_told():
    with pytest.raises(mtv.MtvisionError, match=r"the weights take 2\.5 GB, and an ONNX file at most 2"):
        require_onnx(check=False, num_bytes=2_500_000_000)


def test_soft_suppression_is_refused_inside(tmp_path):
    model = small_model(detections={"nms": "soft"})
    with pytest.raises(mtv.ConfigError, match=r"soft.*export with postprocess='outside', or build the model"):
        mtv.export(model, tmp_path / "model.pt2")


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "model.pt2"
    path.write_text("what was there")
    monkeypatch.setattr(checking, "largest_difference", lambda expected, found: 0.5)
    with pytest.raises(mtv.MtvisionError, match=r"differs from the model by 0\.5 on random images 1 x 3 x 8 x 8, more"):
        mtv.export(tiny(), path, dynamic=False)
    assert path.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_another_choice_from_the_same_numbers_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("mtvision.tasks.exported_parts.same_tensors", lambda expected, found: False)
    with pytest.raises(mtv.MtvisionError, match="chooses other predictions of task 'seg'"):
        mtv.export(tiny(), tmp_path / "model.onnx", dynamic=False)
    assert list(tmp_path.iterdir()) == []


def test_a_program_is_compared_by_what_it_gives(tmp_path, monkeypatch):
    """It gives predictions only, so these are compared, and the tolerance is theirs."""
    original = exporter._program_runner

    def other(path):
        run = original(path)
        return lambda images: {name: each + 1 for name, each in run(images).items()}

    assert mtv.export(tiny(), tmp_path / "model.pt2", dynamic=False).largest_difference == 0
    monkeypatch.setattr(exporter, "_program_runner", other)
    with pytest.raises(mtv.MtvisionError, match="differs from the model by 1 on random images"):
        mtv.export(tiny(), tmp_path / "model.pt2", dynamic=False)
    assert mtv.export(tiny(), tmp_path / "model.pt2", dynamic=False, tolerance=1.5).largest_difference == 1


def test_a_version_that_torch_cannot_write_is_told(tmp_path):
    with pytest.raises(mtv.MtvisionError, match=r"opset: torch cannot write this model in version 99, only in \d+"):
        mtv.export(tiny(), tmp_path / "model.onnx", dynamic=False, opset=99)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("moved", "difference"), [(0.25, 0.25), (float("nan"), float("inf"))])
def test_the_largest_difference_is_that_of_the_worst_tensor(moved, difference):
    expected = {"a": torch.zeros(3), "b": torch.tensor([0.0, 8.0])}
    assert checking.largest_difference(expected, {"a": torch.tensor([0, moved, 0]), "b": expected["b"]}) == difference
    assert checking.largest_difference(expected, {"a": expected["a"], "b": torch.tensor([1.0, 8.0])}) == 1 / 8
    assert checking.largest_difference(expected, {"a": torch.zeros(2), "b": expected["b"]}) == float("inf")


class Branching(Pointwise):
    def forward(self, features):
        logits = super().forward(features)
        return logits if logits.sum() > 0 else -logits


def test_a_program_that_would_refuse_the_models_own_size_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "smallest_side", lambda program, free, size: 33)
    with pytest.raises(mtv.MtvisionError, match=r"images of 33 pixels at least, and image_size is 8 x 8; give dynamic"):
        mtv.export(tiny(), tmp_path / "model.pt2")


def test_a_model_that_cannot_be_traced_is_told(tmp_path):
    with pytest.raises(mtv.MtvisionError, match=r"torch cannot trace this model for any batch, height, width; try"):
        mtv.export(tiny(Branching()), tmp_path / "model.pt2")


def test_it_is_traced_where_no_feature_is_a_single_cell():
    assert tracing_size(small_model(), (64, 96)) == (256, 384)  # 8 strides of 32 at least, in whole multiples
    assert tracing_size(tiny(), (8, 9)) == (8, 9)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_file_of_others_is_told(suffix, tmp_path):
    pytest.importorskip("onnx")
    path = tmp_path / f"model{suffix}"
    with pytest.raises(mtv.MtvisionError, match="there is no exported file"):
        read_metadata(path)
    path.write_bytes(b"\xffnothing")
    with pytest.raises(mtv.MtvisionError, match="is no exported file"):
        read_metadata(path)


def test_an_onnx_file_with_the_end_of_an_archive_in_it_is_no_archive(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "model.onnx"
    end = b"PK\x05\x06" + bytes(18)  # as weights may have it
    model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [], doc_string=end.decode("latin-1")))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(mtv.MtvisionError, match="has no metadata of mtvision"):
        read_metadata(path)


def test_a_program_that_is_cut_off_is_told(tmp_path, monkeypatch):
    path = tmp_path / "model.pt2"
    path.write_bytes(b"PK\x03\x04" + bytes(40))
    monkeypatch.setitem(sys.modules, "onnx", None)  # it has nothing to do with it
    for name in ("model.pt2", "model.program"):
        with pytest.raises(mtv.MtvisionError, match="is no exported file"):
            read_metadata(path.rename(tmp_path / name))
        path = tmp_path / name


def test_metadata_that_are_not_ours_are_told(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").touch()
    for text, sentence in (("", "has no metadata of mtvision"), (json.dumps({"format": "onnx"}), "cannot be read")):
        monkeypatch.setattr(metadata, "_of_onnx", lambda path, text=text: text)
        with pytest.raises(mtv.MtvisionError, match=sentence):
            read_metadata(tmp_path / "model.onnx")
