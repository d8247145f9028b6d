import pytest
import torch
from assigner_inputs import CLASSES, CPU, POINTS, SIZE, ignored, learned, random_batch, target_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from mtvision.assigners.base import pad_targets
from mtvision.assigners.task_aligned import TaskAlignedAssigner


def is_inside(point, box):
    """The rule for a candidate, spelled out: the box, or a cell of 8 pixels about its centre, kept on the grid."""
    x1, y1, x2, y2 = box.tolist()
    centre = [min(max((x1 + x2) / 2, 4.0), SIZE - 4.0), min(max((y1 + y2) / 2, 4.0), SIZE - 4.0)]
    x, y = point[:2].tolist()
    return min(x1, centre[0] - 4.008) <= x <= max(x2, centre[0] + 4.008) and min(y1, centre[1] - 4.008) <= y <= max(
        y2, centre[1] + 4.008
    )


def slow_assignment(logits, boxes, target, topk=13, min_score=0.1):
    """One image, one object at a time: the object of each positive point, its score, and the ignored points."""
    count = len(target["boxes"])
    claims = {}
    inside = [[is_inside(point, box) for point in POINTS] for box in target["boxes"]]
    iou = box_iou(target["boxes"], boxes).nan_to_num()
    ranking = torch.zeros(count, len(POINTS))
    near = torch.zeros(count, len(POINTS))
    for m in range(count):
        centre = (target["boxes"][m, :2] + target["boxes"][m, 2:]) / 2
        near[m] = 1 / (1 + (POINTS[:, :2] - centre).norm(dim=1))
        ranking[m] = logits[:, target["labels"][m]].sigmoid() * iou[m] ** 6 + 1e-9 * near[m]
        if target["difficult"][m]:
            continue
        candidates = [a for a in range(len(POINTS)) if inside[m][a]]
        for a in sorted(candidates, key=lambda a: -ranking[m, a].item())[:topk]:
            claims.setdefault(a, []).append(m)
    owner = {a: max(ms, key=lambda m: iou[m, a].item() + 1e-6 * near[m, a].item()) for a, ms in claims.items()}
    scores = {}
    for m in set(owner.values()):
        mine = [a for a in owner if owner[a] == m]
        best_iou = max(max(iou[m, a].item() for a in mine), min_score)
        best_ranking = max(ranking[m, a].item() for a in mine)
        scores |= {a: ranking[m, a].item() / best_ranking * best_iou for a in mine}
    hard = [m for m in range(count) if target["difficult"][m]]
    return owner, scores, {a for a in range(len(POINTS)) if a not in owner and any(inside[m][a] for m in hard)}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_equals_the_obvious_loop(seed):
    logits, boxes, targets = random_batch(seed)
    fast = TaskAlignedAssigner()(logits, boxes, POINTS, pad_targets(targets, CPU))
    for image, target in enumerate(targets):
        owner, scores, difficult = slow_assignment(logits[image], boxes[image], target)
        assert learned(fast, image) == owner
        for a, score in scores.items():
            assert float(fast.scores[image, a]) == pytest.approx(score, rel=1e-3)
        assert ignored(fast, image) == difficult
    assert (fast.scores[~fast.foreground] == 0).all()
    assert fast.scores.max() <= 1


def test_a_cold_start_gives_every_object_positives_of_some_weight():
    """All scores equal, every predicted box far away: IoU 0 everywhere."""
    objects = [[2, 2, 30, 30], [30, 30, 62, 62], [40, 3, 44, 6], [0, 60, 1, 61], [63, 0, 64, 1], [20, 20, 20, 20]]
    logits = torch.full((1, len(POINTS), CLASSES), -4.6)
    boxes = torch.full((1, len(POINTS), 4), 1000.0)
    result = TaskAlignedAssigner()(logits, boxes, POINTS, pad_targets([target_of(objects)], CPU))
    for m in range(len(objects)):
        mine = result.foreground[0] & (result.object_index[0] == m)
        assert mine.any()
        assert result.scores[0, mine].max().item() == pytest.approx(0.1)


@settings(max_examples=40, deadline=None)
@given(x=st.floats(0, SIZE, width=32), y=st.floats(0, SIZE, width=32), w=st.floats(0, 9, width=32))
def test_every_object_inside_the_image_has_a_positive(x, y, w):
    box = [x, y, min(x + w, SIZE), min(y + w, SIZE)]
    logits, boxes, _ = random_batch(0, num_images=1)
    result = TaskAlignedAssigner()(logits, boxes, POINTS, pad_targets([target_of([box])], CPU))
    assert result.foreground.any()


def test_the_best_point_has_its_iou_as_score():
    box = torch.tensor([8.0, 8.0, 40.0, 40.0])
    logits = torch.zeros(1, len(POINTS), CLASSES)
    boxes = torch.zeros(1, len(POINTS), 4)
    point = int(((POINTS[:, 0] == 24) & (POINTS[:, 2] == 16)).nonzero()[1])
    boxes[0, point] = box
    result = TaskAlignedAssigner()(logits, boxes, POINTS, pad_targets([target_of(box.tolist(), [2])], CPU))
    assert result.scores[0, point].item() == pytest.approx(1.0)
    assert result.scores.sum().item() == pytest.approx(1.0, abs=1e-4)


def test_difficult_objects_are_ignored_but_not_where_another_learns():
    logits, boxes, _ = random_batch(1, num_images=1)
    padded = pad_targets([target_of([[0, 0, 40, 40], [0, 0, 40, 40]], difficult=[True, False])], CPU)
    result = TaskAlignedAssigner()(logits, boxes, POINTS, padded)
    assert result.foreground.sum() == 13
    assert (result.object_index[result.foreground] == 1).all()
    assert result.ignored.any()
    assert not (result.ignored & result.foreground).any()
