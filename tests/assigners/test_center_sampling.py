from types import SimpleNamespace

import pytest
import torch
from assigner_inputs import (
    CPU,
    POINTS,
    STRIDES,
    ignored,
    learned,
    points_of,
    random_batch,
    random_predictions,
    target_of,
)
from torchvision.models.detection import FCOS

from mtvision.assigners.base import pad_targets
from mtvision.assigners.center_sampling import CenterSamplingAssigner


def torchvision_matches(boxes, points, radius):
    """The object of each positive point, caught where torchvision's FCOS hands it to its head."""
    caught = []
    head = SimpleNamespace(compute_loss=lambda *arguments: caught.extend(arguments[3]))
    anchors = torch.cat([points[:, :2] - points[:, 2:] / 2, points[:, :2] + points[:, 2:] / 2], dim=1)
    sizes = points[:, 2].unique_consecutive(return_counts=True)[1].tolist()
    FCOS.compute_loss(
        SimpleNamespace(center_sampling_radius=radius, head=head), [{"boxes": boxes}], {}, [anchors], sizes
    )
    return {a: m for a, m in enumerate(caught[0].tolist()) if m >= 0}


def random_boxes(generator, size, most=8):
    """Sides from 2 to 5 images; areas are multiples of 8, since torchvision compares them in steps of 8."""
    count = int(torch.randint(0, most + 1, (1,), generator=generator))
    multiples = torch.tensor([4, 2])
    sides = (2 * (2.5 * size) ** torch.rand(count, 2, generator=generator) / multiples).ceil() * multiples
    low = torch.randint(0, 4 * size, (count, 2), generator=generator) / 4 - sides / 2
    return torch.cat([low, low + sides], dim=1)


@pytest.mark.parametrize("radius", [1.5, 0.7, 100.0])
@pytest.mark.parametrize(
    ("size", "strides"), [(64, STRIDES), (256, (8, 16, 32, 64, 128)), (64, (16,))], ids=["64", "256", "one level"]
)
def test_equals_torchvision(size, strides, radius):
    points = points_of(size, strides)
    generator = torch.Generator().manual_seed(0)
    seen, levels = [0, 0], set()
    for _ in range(30):
        targets = [target_of(random_boxes(generator, size)) for _ in range(3)]
        for target in targets:
            target["difficult"] = torch.rand(len(target["boxes"]), generator=generator) < 0.2
        logits, boxes = random_predictions(generator, 3, points)
        result = CenterSamplingAssigner(radius=radius)(logits, boxes, points, pad_targets(targets, CPU))
        for image, target in enumerate(targets):
            rows = (~target["difficult"]).nonzero().flatten()
            matches = torchvision_matches(target["boxes"][rows], points, radius)
            assert learned(result, image) == {a: int(rows[m]) for a, m in matches.items()}
            difficult = points_inside(target["boxes"][target["difficult"]].tolist(), points) - set(matches)
            assert ignored(result, image) == difficult
            seen = [seen[0] + len(matches), seen[1] + len(difficult)]
            levels |= set(points[list(matches), 2].tolist())
    assert min(seen) > 50
    assert levels == set(strides)


def points_inside(boxes, points):
    return {
        a for a, (x, y, _) in enumerate(points.tolist()) if any(x1 < x < x2 and y1 < y < y2 for x1, y1, x2, y2 in boxes)
    }


def test_the_smallest_area_wins_by_less_than_torchvision_sees():
    large, small = [1.0, 1.0, 30.0, 30.0], [1.0, 1.0, 30.0, 29.9]
    logits, boxes, _ = random_batch(0, 1)
    assert set(torchvision_matches(torch.tensor([large, small]), POINTS, 1.5).values()) == {0}
    result = CenterSamplingAssigner()(logits, boxes, POINTS, pad_targets([target_of([large, small])], CPU))
    assert (result.object_index[result.foreground] == 1).all()
    assert result.foreground.any()
