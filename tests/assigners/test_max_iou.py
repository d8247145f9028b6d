import pytest
import torch
from assigner_inputs import CPU, POINTS, anchors_of, ignored, learned, random_batch, target_of
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from mtvision.assigners.base import anchor_boxes, pad_targets
from mtvision.assigners.max_iou import MaxIoUAssigner
from mtvision.errors import ConfigError
from mtvision.registries import ASSIGNERS
from mtvision.registry import Component

THRESHOLDS = [(0.5, 0.4), (0.7, 0.3), (0.3, 0.3)]


def torchvision_matches(target, anchors, foreground, background, low_quality):
    """The object of each positive anchor, and the anchors between the thresholds, of one image."""
    touching = box_iou(target["boxes"], anchors).amax(dim=1) > 0
    rows = (touching & ~target["difficult"]).nonzero().flatten()
    if not len(rows):
        return {}, set()
    matches = Matcher(foreground, background, low_quality)(box_iou(target["boxes"][rows], anchors))
    between = (matches == Matcher.BETWEEN_THRESHOLDS).nonzero().flatten().tolist()
    return {a: int(rows[m]) for a, m in enumerate(matches.tolist()) if m >= 0}, set(between)


def shaken_anchors(anchors, count, seed):
    """Objects that overlap some anchors much."""
    generator = torch.Generator().manual_seed(seed)
    chosen = anchors[torch.randint(0, len(anchors), (count,), generator=generator)]
    return chosen + (torch.rand(count, 4, generator=generator) - 0.5) * 0.2 * (chosen[:, 2:3] - chosen[:, :1])


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize(("foreground", "background"), THRESHOLDS)
@pytest.mark.parametrize("points", [POINTS, anchors_of(POINTS)], ids=["points", "anchors"])
def test_equals_torchvision(points, foreground, background, low_quality):
    assigner = MaxIoUAssigner(
        foreground_iou=foreground, background_iou=background, low_quality=low_quality, anchor_scale=3.0
    )
    anchors = anchor_boxes(points, 3.0)
    seen = dict.fromkeys(("foreground", "between", "difficult"), 0)
    for seed in range(20):
        logits, boxes, targets = random_batch(seed, most=8)
        targets[1]["boxes"] = shaken_anchors(anchors, len(targets[1]["boxes"]), seed)
        targets.append(target_of(targets[0]["boxes"].round()))  # equal overlaps
        result = assigner(
            torch.cat([logits, logits[:1]]), torch.cat([boxes, boxes[:1]]), points, pad_targets(targets, CPU)
        )
        for image, target in enumerate(targets):
            owner, between = torchvision_matches(target, anchors, foreground, background, low_quality)
            overlap = box_iou(target["boxes"][target["difficult"]], anchors)
            difficult = set((overlap >= foreground).any(dim=0).nonzero().flatten().tolist())
            assert learned(result, image) == owner
            assert ignored(result, image) == (between | difficult) - set(owner)
            seen["foreground"] += len(owner)
            seen["between"] += len(between)
            seen["difficult"] += len(difficult - set(owner) - between)
    assert seen["foreground"] > 50
    assert seen["difficult"] > 0
    assert (seen["between"] > 0) == (foreground > background)


def test_an_overlap_of_exactly_a_threshold_belongs_to_what_is_above_it():
    point = torch.tensor([[16.0, 16.0, 8.0]])
    for box, expected in (([0, 0, 32, 16], 0), ([0, 0, 32, 8], Matcher.BETWEEN_THRESHOLDS)):  # an IoU of 1/2 and 1/4
        target = target_of([box])
        overlap = box_iou(target["boxes"], anchor_boxes(point, 4.0))
        assert Matcher(0.5, 0.25, False)(overlap).tolist() == [expected]
        assigner = MaxIoUAssigner(background_iou=0.25, low_quality=False, anchor_scale=4.0)
        result = assigner(torch.zeros(1, 1, 3), torch.zeros(1, 1, 4), point, pad_targets([target], CPU))
        assert result.foreground.item() == (expected == 0)
        assert result.ignored.item() == (expected == Matcher.BETWEEN_THRESHOLDS)


def test_an_object_that_overlaps_no_anchor_claims_none():
    """torchvision's matcher, given such an object, calls every anchor that no other object touches its positive."""
    far = [[1000.0, 1000.0, 1010.0, 1010.0]]
    anchors = anchor_boxes(POINTS, 8.0)
    assert (Matcher(0.5, 0.4, True)(box_iou(torch.tensor(far), anchors)) == 0).all()
    result = MaxIoUAssigner()(*random_batch(0, 1)[:2], POINTS, pad_targets([target_of(far)], CPU))
    assert not result.foreground.any()
    assert not result.ignored.any()


def test_low_quality_gives_a_small_object_its_best_anchor():
    targets = pad_targets([target_of([[9, 9, 13, 13]])], CPU)
    logits, boxes, _ = random_batch(0, 1)
    result = MaxIoUAssigner(anchor_scale=4)(logits, boxes, POINTS, targets)
    # side 4 in 32: an IoU of 1/64 with each finest anchor that holds it: centres at 4, 12 and 20
    assert POINTS[result.foreground[0], 2].unique().tolist() == [8]
    assert sorted(set(POINTS[result.foreground[0], 0].tolist())) == [4, 12, 20]
    assert not MaxIoUAssigner(low_quality=False)(logits, boxes, POINTS, targets).foreground.any()


def test_thresholds_in_the_wrong_order_are_refused():
    with pytest.raises(ConfigError, match=r"assigner 'max_iou': background_iou 0\.6 is above foreground_iou 0\.5"):
        ASSIGNERS.build(Component("max_iou", {"background_iou": 0.6}))
