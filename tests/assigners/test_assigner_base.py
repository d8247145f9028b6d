import pytest
import torch
from assigner_inputs import CPU, POINTS, anchors_of, random_batch, target_of
from torchvision.ops import box_convert

from mtvision.assigners import base
from mtvision.assigners.base import anchor_boxes, edge_distances, object_blocks, pad_targets
from mtvision.assigners.task_aligned import TaskAlignedAssigner
from mtvision.ops.boxes import boxes_to_distances
from mtvision.registries import ASSIGNERS


def test_padding_puts_each_object_where_it_belongs():
    padded = pad_targets([None, target_of([[1, 2, 3, 4], [5, 6, 7, 8]], [1, 2], [False, True]), target_of([])], CPU)
    assert padded.boxes.shape == (3, 2, 4)
    assert padded.boxes[1].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert padded.labels[1].tolist() == [1, 2]
    assert padded.difficult[1].tolist() == [False, True]
    assert padded.valid.tolist() == [[False, False], [True, True], [False, False]]
    assert padded.learnable.tolist() == [[False, False], [True, False], [False, False]]
    assert padded.annotated.tolist() == [False, True, True]
    assert pad_targets([None], CPU).boxes.shape == (1, 1, 4)


def test_anchor_boxes_equal_torchvision():
    anchors = anchors_of(POINTS)
    expected = box_convert(anchors[:, [0, 1, 3, 4]], "cxcywh", "xyxy")
    torch.testing.assert_close(anchor_boxes(anchors, 99.0), expected)
    squares = torch.cat([POINTS, POINTS[:, 2:].expand(-1, 2) * 3], dim=1)
    torch.testing.assert_close(anchor_boxes(POINTS, 3.0), anchor_boxes(squares, 99.0))


def test_edge_distances_are_those_of_each_pair():
    boxes = torch.rand(2, 3, 4) * 64
    distances = torch.stack(edge_distances(boxes, POINTS), dim=-1)  # (N, M, A, 4)
    for image in range(2):
        for m in range(3):
            expected = boxes_to_distances(boxes[image, m].expand(len(POINTS), 4), POINTS[:, :2])
            assert torch.equal(distances[image, m], expected)


@pytest.mark.parametrize(("limit", "lengths"), [(1, [1] * 5), (2 * 84 * 2, [2, 2, 1]), (2 * 84 * 5, [5])])
def test_blocks_hold_every_object_once(limit, lengths, monkeypatch):
    monkeypatch.setattr(base, "MAX_PAIRS", limit)
    targets = pad_targets([target_of(torch.rand(5, 4) * 64, [0, 1, 2, 1, 0]), None], CPU)
    firsts, blocks = zip(*object_blocks(targets, 84), strict=True)
    assert [block.valid.shape[1] for block in blocks] == lengths
    assert list(firsts) == [sum(lengths[:i]) for i in range(len(lengths))]
    for part, joined in zip(targets[:4], zip(*(block[:4] for block in blocks), strict=True), strict=True):
        assert torch.equal(torch.cat(joined, dim=1), part)


def test_only_task_aligned_scores_are_soft():
    assert {name: ASSIGNERS.build(name).soft for name in ASSIGNERS.names()} == {
        "atss": False,
        "center_sampling": False,
        "max_iou": False,
        "task_aligned": True,
    }


def test_half_precision_predictions_are_assigned_in_float32():
    logits, boxes, targets = random_batch(3)
    result = TaskAlignedAssigner()(logits.bfloat16(), boxes.bfloat16(), POINTS, pad_targets(targets, CPU))
    same = TaskAlignedAssigner()(logits.bfloat16().float(), boxes.bfloat16().float(), POINTS, pad_targets(targets, CPU))
    assert torch.equal(result.scores, same.scores)
    assert result.scores.dtype == torch.float32
