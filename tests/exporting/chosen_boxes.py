"""Random points with boxes and scores, and what the eager selection says of them."""

import torch

from mtvision.registries import SUPPRESSIONS
from mtvision.tasks.selection import Selection, select_detections


def selection(nms="class_wise", **changes):
    numbers = {"score_threshold": 0.3, "nms_threshold": 0.5, "max_detections": 8, "candidates": 12}
    return Selection(suppress=SUPPRESSIONS.build(nms), **{**numbers, **changes})


def random_points(seed, images=3, of_level=(16, 9, 4), num_classes=2, tied=False):
    """Boxes (N, A, 4), some of them without area, scores (N, A, C) and levels (A,)."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(of_level)
    corners = torch.rand(images, total, 2, 2, generator=generator).mul(8).sort(dim=2).values
    boxes = corners.flatten(2)
    boxes[:, ::7, 2:] = boxes[:, ::7, :2]
    scores = torch.rand(images, total, num_classes, generator=generator)
    scores = scores.mul(4).round().div(4) if tied else scores
    levels = torch.repeat_interleave(torch.arange(len(of_level)), torch.tensor(of_level))
    return boxes, scores, levels


def assert_selected(found, boxes, scores, levels, chosen):
    """Compare fixed places with the detections that the task selects, image by image."""
    assert len(found["count"]) == len(boxes)
    for index in range(len(boxes)):
        expected = select_detections(boxes[index], scores[index], levels, chosen)
        count = int(found["count"][index])
        assert count == len(expected["scores"])
        for name, each in expected.items():
            torch.testing.assert_close(found[name][index, :count], each, rtol=0, atol=0)
            assert (found[name][index, count:] == (-1 if name == "labels" else 0)).all()
            assert found[name].shape[1] == chosen.max_detections
