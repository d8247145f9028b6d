import pytest
import torch
from assigner_inputs import CPU, POINTS, anchors_of, ignored, learned, random_batch, target_of
from torchvision.ops import box_iou

from mtvision.assigners.atss import ATSSAssigner
from mtvision.assigners.base import anchor_boxes, pad_targets


def edges(point, box):
    x, y = point[:2].tolist()
    x1, y1, x2, y2 = box.tolist()
    return x - x1, y - y1, x2 - x, y2 - y


def slow_assignment(target, points, topk, anchors_a_point, scale):
    """Algorithm 1 of the paper, one object and one level at a time: the object of each positive, the ignored points."""
    anchors = anchor_boxes(points, scale)
    claims = {}
    for m, box in enumerate(target["boxes"]):
        if target["difficult"][m]:
            continue
        candidates = []
        for stride in points[:, 2].unique().tolist():
            level = (points[:, 2] == stride).nonzero().flatten().tolist()
            centre = (box[:2] + box[2:]) / 2
            distance = {a: float(((points[a, :2] - centre) ** 2).sum()) for a in level}
            candidates += sorted(level, key=lambda a: (distance[a], a))[: topk * anchors_a_point]
        iou = box_iou(box[None], anchors[candidates])[0]
        threshold = iou.mean() + iou.std()  # of the paper's code: unbiased
        for a, overlap in zip(candidates, iou, strict=True):
            if overlap >= threshold and min(edges(points[a], box)) > 0.01:
                claims.setdefault(a, {})[m] = float(overlap)
    owner = {a: max(by_object, key=by_object.get) for a, by_object in claims.items()}
    hard = target["boxes"][target["difficult"]]
    covered = {a for a, point in enumerate(points) if any(min(edges(point, box)) > 0.01 for box in hard)}
    return owner, covered - set(owner)


@pytest.mark.parametrize(("topk", "scale"), [(9, 8.0), (4, 3.0), (1000, 5.0)])
@pytest.mark.parametrize(
    ("points", "anchors_a_point"), [(POINTS, 1), (anchors_of(POINTS), 3)], ids=["points", "anchors"]
)
def test_equals_the_obvious_loop(points, anchors_a_point, topk, scale):
    seen = [0, 0]
    for seed in range(8):
        logits, boxes, targets = random_batch(seed, 3, most=8)
        targets[2]["boxes"] = targets[2]["boxes"].round()  # centres between points: equal distances and overlaps
        assigner = ATSSAssigner(topk=topk, anchor_scale=scale)
        result = assigner(logits, boxes, points, pad_targets(targets, CPU))
        for image, target in enumerate(targets):
            owner, difficult = slow_assignment(target, points, topk, anchors_a_point, scale)
            assert learned(result, image) == owner
            assert ignored(result, image) == difficult
            seen = [seen[0] + len(owner), seen[1] + len(difficult)]
    assert min(seen) > 20


def test_of_equally_near_points_the_first_are_candidates():
    """Sixteen points of stride 8 lie in pairs and fours at equal distances about the centre (32, 32)."""
    target = pad_targets([target_of([[16, 16, 48, 48]])], CPU)
    logits, boxes, _ = random_batch(0, 1)
    points = POINTS[:64]  # the finest level alone
    result = ATSSAssigner(topk=2, anchor_scale=4)(logits[:, :64], boxes[:, :64], points, target)
    # all four nearest have the same IoU, which is then the threshold: exactly the two candidates are positives
    assert points[result.foreground[0], :2].tolist() == [[28, 28], [36, 28]]


def test_a_single_candidate_is_a_positive():
    points = torch.tensor([[32.0, 32.0, 64.0]])
    target = pad_targets([target_of([[10, 10, 50, 50]])], CPU)
    result = ATSSAssigner()(torch.zeros(1, 1, 3), torch.zeros(1, 1, 4), points, target)
    assert result.foreground.tolist() == [[True]]


def test_the_deviation_is_the_unbiased_one():
    """IoU of 1, 1, 0, 0: 0.5 + 0.577 is above 1, while 0.5 + 0.5 of the biased deviation would be reached."""
    points = torch.tensor([[8.0, 8.0, 8.0], [8.0, 8.0, 8.0], [80.0, 8.0, 8.0], [80.0, 8.0, 8.0]])
    target = pad_targets([target_of([[0, 0, 16, 16]])], CPU)
    result = ATSSAssigner(anchor_scale=2)(torch.zeros(1, 4, 3), torch.zeros(1, 4, 4), points, target)
    assert not result.foreground.any()
