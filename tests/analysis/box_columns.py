"""Boxes of several images as columns: drawn at random, or written by hand."""

import random

import numpy as np

from mtvision.analysis.detections import Detections, Objects


def found(*rows):
    """Return detections of rows ``image, box, label, score``."""
    image, boxes, labels, scores = zip(*rows, strict=True) if rows else ([], [], [], [])
    return Detections(
        np.array(image, dtype=np.int64),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        np.array(scores, dtype=np.float64),
    )


def there(*rows):
    """Return objects of rows ``image, box, label`` or ``image, box, label, difficult``."""
    rows = [(*row, False)[:4] for row in rows]
    image, boxes, labels, difficult = zip(*rows, strict=True) if rows else ([], [], [], [])
    return Objects(
        np.array(image, dtype=np.int64),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        np.array(difficult, dtype=np.bool_),
    )


def columns(predictions, truths):
    """Return the columns of what a protocol takes."""
    detections = [
        (image, box, label, score)
        for image, entry in enumerate(predictions)
        for box, label, score in zip(
            *(entry[name].double().tolist() for name in ("boxes", "labels", "scores")), strict=True
        )
    ]
    objects = [
        (image, box, label, difficult)
        for image, entry in enumerate(truths)
        for box, label, difficult in zip(
            *(entry[name].tolist() for name in ("boxes", "labels", "difficult")), strict=True
        )
    ]
    return found(*detections), there(*objects)


def crowded(seed, *, num_images=6, classes=3, most=8, difficult=0.0):
    """Return detections with errors of all types, and objects; the same for a seed with every version of Python."""
    draw = random.Random(seed).random  # the one method whose numbers never change

    def below(number):
        return int(draw() * number)

    detections, objects = [], []
    for image in range(num_images):
        for _ in range(below(most + 1)):
            x, y, width, height = below(100), below(100), 10 + below(60), 10 + below(60)
            label = below(classes)
            objects.append((image, (x, y, x + width, y + height), label, draw() < difficult))
            for _ in range(below(4)):
                left, top, right, bottom = (below(40) - 20 for _ in range(4))
                box = (x + left, y + top, x + max(width + right, left + 1), y + max(height + bottom, top + 1))
                detections.append((image, box, label if draw() < 0.6 else below(classes), draw()))
        for _ in range(below(6)):
            x, y = below(130), below(130)
            detections.append((image, (x, y, x + 30, y + 30), below(classes), draw()))
    return found(*detections), there(*objects)
