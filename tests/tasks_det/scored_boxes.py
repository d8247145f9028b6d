"""Boxes to score, the scoring by name, and the reference implementation of COCO's numbers."""

import contextlib
import io

import numpy as np
import torch
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mtvision.tasks.detection_protocols import DETECTION_PROTOCOLS

CLASSES = 4


def detections(boxes, scores, labels):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def objects(boxes, labels, difficult=None):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "difficult": torch.tensor([False] * len(labels) if difficult is None else difficult, dtype=torch.bool),
    }


NOTHING, EMPTY = detections([], [], []), objects([], [])
ONE, HIT = objects([[10, 10, 60, 60]], [1]), detections([[12, 10, 60, 58]], [0.7], [1])
WIDE = objects([[0, 0, 200, 200]], [1], [True])


def random_case(seed, *, num_images=10, most=5, copies=3, false=8, grid=None, difficult=0.2, spread=150):
    """Boxes near the truth and false ones; ``grid``: coordinates are multiples, so that overlaps tie."""
    generator = np.random.default_rng(seed)
    predictions, truths = [], []
    for _ in range(num_images):
        count = int(generator.integers(0, most + 1))
        low = generator.random((count, 2)) * 200
        boxes = np.concatenate([low, low + 5 + generator.random((count, 2)) * spread], axis=1)
        labels = generator.integers(0, CLASSES - 1, count)  # the last class is only predicted
        found = np.tile(boxes, (copies, 1)) + generator.normal(size=(copies * count, 4)) * 6
        extra = generator.random((false, 2)) * 200
        found = np.concatenate([found, np.concatenate([extra, extra + 40], axis=1)])
        if grid:
            boxes, found = (np.round(value / grid) * grid for value in (boxes, found))
            boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + grid)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + (grid or 1))
        guesses = np.concatenate([np.tile(labels, copies), generator.integers(0, CLASSES, false)])
        scores = np.round(generator.random(len(found)) * 10) / 10  # with ties
        truths.append(objects(boxes.tolist(), labels.tolist(), (generator.random(count) < difficult).tolist()))
        predictions.append(detections(found.tolist(), scores.tolist(), guesses.tolist()))
    return predictions, truths


def evaluate(protocol, predictions, truths, *, classes=CLASSES, batch=3):
    evaluator = DETECTION_PROTOCOLS[protocol](classes)
    for start in range(0, len(truths), batch):
        evaluator.update(predictions[start : start + batch], truths[start : start + batch])
    return evaluator.compute()


def by_pycocotools(predictions, truths, classes=CLASSES):
    """The twelve numbers of the reference implementation by class ``(12, C)``; NaN for its -1."""

    def rows(entries, extra):
        found = []
        for image, entry in enumerate(entries):
            for index, (x, y, x2, y2) in enumerate(entry["boxes"].double().tolist()):
                row = {"image_id": image, "category_id": int(entry["labels"][index]), "id": len(found) + 1}
                row |= {"bbox": [x, y, x2 - x, y2 - y], "area": (x2 - x) * (y2 - y), "iscrowd": 0}
                found.append(row | extra(entry, index))
        return found

    def data(annotations):
        coco = COCO()
        coco.dataset = {"images": [{"id": i} for i in range(len(truths))], "annotations": annotations}
        coco.dataset["categories"] = [{"id": label} for label in range(classes)]
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        truth = data(rows(truths, lambda entry, index: {"iscrowd": int(entry["difficult"][index])}))
        found = data(rows(predictions, lambda entry, index: {"score": float(entry["scores"][index].double())}))
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]  # (T, R, C, A, M), (T, C, A, M)
    table = [precision[..., 0, 2].mean(axis=(0, 1)), *precision[[0, 5], ..., 0, 2].mean(axis=1)]
    table += [precision[..., size, 2].mean(axis=(0, 1)) for size in (1, 2, 3)]
    table += [recall[..., 0, most].mean(axis=0) for most in (0, 1, 2)]
    table += [recall[..., size, 2].mean(axis=0) for size in (1, 2, 3)]
    table = np.array(table)
    return np.where(table < 0, np.nan, table), evaluation


coordinate = st.integers(0, 6).map(lambda value: 8 * value)
side = st.integers(1, 5).map(lambda value: 8 * value)
box = st.tuples(coordinate, coordinate, side, side).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
label = st.integers(0, 1)
image = st.tuples(
    st.lists(st.tuples(box, st.sampled_from([0.25, 0.5, 0.75]), label), max_size=8),
    st.lists(st.tuples(box, label, st.booleans()), max_size=5),
)


def entries(images):
    """Return predictions and truths of a list of `image`."""
    predictions = [detections(*columns(found)) if found else NOTHING for found, _ in images]
    return predictions, [objects(*columns(truth)) if truth else EMPTY for _, truth in images]


def columns(rows):
    return [list(column) for column in zip(*rows, strict=True)]
