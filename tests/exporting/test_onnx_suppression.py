"""The selection of detections as an ONNX graph, run by ONNX Runtime, says what the task's own says."""

import pytest
import torch
from chosen_boxes import assert_selected, random_points, selection
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtvision.exporting.onnx_file import onnx_model
from mtvision.exporting.onnx_suppression import suppress_in_onnx
from mtvision.tasks.batched_selection import select_batch

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.slow  # an export takes its time


class Selecting(nn.Module):
    def __init__(self, chosen):
        super().__init__()
        self.chosen = chosen

    def forward(self, boxes, scores, levels):
        return select_batch(boxes, scores, levels, 3, self.chosen, suppress_in_onnx)


def in_onnx(chosen):
    """A function of boxes, scores and levels that runs in ONNX Runtime."""
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 1: free}, {0: free, 1: free}, {0: free})
    program = torch.export.export(Selecting(chosen), random_points(0), dynamic_shapes=shapes)
    names = ["boxes", "scores", "labels", "count"]
    model = onnx_model(program, ["in_boxes", "in_scores", "in_levels"], names, None)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(*tensors):
        given = {each.name: tensor.numpy() for each, tensor in zip(session.get_inputs(), tensors, strict=True)}
        return dict(zip(names, map(torch.from_numpy, session.run(names, given)), strict=True))

    return run


@pytest.fixture(scope="module")
def rule():
    chosen = selection(candidates=10, max_detections=12)
    return chosen, in_onnx(chosen)


@given(seed=st.integers(0, 10**6), images=st.integers(1, 4), fine=st.integers(2, 40), tied=st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_number_of_images_and_boxes(rule, seed, images, fine, tied):
    """Also of equal scores: ONNX's TopK takes the first."""
    chosen, run = rule
    points = random_points(seed, images=images, of_level=(fine, 9, 4), tied=tied)
    assert_selected(run(*points), *points, chosen)


def test_nothing_is_found_in_nothing(rule):
    boxes, scores, levels = random_points(0)
    assert rule[1](boxes, scores * 0, levels)["count"].tolist() == [0, 0, 0]
