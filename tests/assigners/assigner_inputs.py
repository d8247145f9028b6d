"""Points, targets and predictions for the tests of all assigners: images of 64 pixels, strides of 8, 16 and 32."""

import torch

from mtvision.ops.points import grid_points

SIZE = 64
STRIDES = (8, 16, 32)
CLASSES = 3
CPU = torch.device("cpu")


def points_of(size=SIZE, strides=STRIDES):
    return torch.cat([grid_points((size // stride, size // stride), stride) for stride in strides])


POINTS = points_of()


def anchors_of(points, sides=((4, 4), (3, 6), (6, 3))):
    """Points with anchors, several a point and next to each other; the sides are in strides."""
    strides = points[:, 2:]
    anchors = torch.stack([torch.cat([points, strides * torch.tensor(side)], dim=1) for side in sides], dim=1)
    return anchors.flatten(0, 1)


def target_of(boxes, labels=None, difficult=None):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return {
        "boxes": boxes,
        "labels": torch.tensor(labels if labels is not None else [0] * len(boxes), dtype=torch.int64),
        "difficult": torch.tensor(difficult if difficult is not None else [False] * len(boxes), dtype=torch.bool),
    }


def random_targets(generator, num_images=3, most=6, size=SIZE):
    targets = []
    for _ in range(num_images):
        count = int(torch.randint(0, most + 1, (1,), generator=generator))
        low = torch.rand(count, 2, generator=generator) * size * 0.8
        high = (low + torch.rand(count, 2, generator=generator) ** 3 * size * 0.8).clamp(max=size)
        labels = torch.randint(0, CLASSES, (count,), generator=generator).tolist()
        difficult = (torch.rand(count, generator=generator) < 0.2).tolist()
        targets.append(target_of(torch.cat([low, high], dim=1), labels, difficult))
    return targets


def random_predictions(generator, num_images, points):
    logits = torch.randn(num_images, len(points), CLASSES, generator=generator) * 2 - 2
    distances = torch.rand(num_images, len(points), 4, generator=generator) * 20
    boxes = torch.cat([points[:, :2] - distances[..., :2], points[:, :2] + distances[..., 2:]], dim=-1)
    return logits, boxes


def random_batch(seed, num_images=3, most=6):
    generator = torch.Generator().manual_seed(seed)
    targets = random_targets(generator, num_images, most)
    return *random_predictions(generator, num_images, POINTS), targets


def learned(assignment, image):
    """The object of each foreground point of an image."""
    foreground = assignment.foreground[image].nonzero().flatten().tolist()
    return {a: int(assignment.object_index[image, a]) for a in foreground}


def ignored(assignment, image):
    return set(assignment.ignored[image].nonzero().flatten().tolist())
