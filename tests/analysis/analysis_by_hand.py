"""Images by hand, and the analysis of what is said of them, as if a model had said it."""

import numpy as np
import torch

import mtvision as mtv
from mtvision.analysis.analysis import Analysis
from mtvision.analysis.box_findings import BoxFindings
from mtvision.analysis.recorder import Recorder
from mtvision.data.loading.collating import truths_of
from mtvision.training.evaluation_result import EvaluationResult
from mtvision.training.observing import Seen
from mtvision.types import Sample

CLASSES = mtv.Classes(("background", "cat", "dog"), ("cat", "dog"))


def sample(boxes=(), labels=None, difficult=None, *, size=(100, 100), value=128, mask=None, name="x"):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Sample(
        image=np.full((*size, 3), value, dtype=np.uint8),
        mask=mask,
        boxes=boxes,
        labels=np.array(labels if labels is not None else [0] * len(boxes), dtype=np.int64),
        difficult=np.array(difficult if difficult is not None else [False] * len(boxes), dtype=np.bool_),
        image_id=name,
        original_size=size,
    )


def found(boxes, scores, labels=None):
    labels = [0] * len(scores) if labels is None else labels
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return {"boxes": boxes, "scores": torch.tensor(scores), "labels": torch.tensor(labels, dtype=torch.int64)}


def analysis_of(samples, predictions, classes=CLASSES, *, threshold=None):
    """Return the analysis of the predictions of images, for the tasks that the first of them has."""
    heads = {"seg": "segmentation_head", "det": "detection_head"}
    tasks = {heads[name]: None for name in heads if name not in predictions[0]}
    counts = {"seg": len(classes.segmentation), "det": len(classes.detection)}
    model = mtv.build_model({"model": {"backbone": "test_resnet", "num_classes": counts, **tasks}})
    recorder = Recorder(model, classes)
    said = {name: [prediction[name] for prediction in predictions] for name in predictions[0]}
    images = [torch.from_numpy(each.image.transpose(2, 0, 1).copy()) for each in samples]
    sure = {"seg": [torch.full(mask.shape, 0.75) for mask in said["seg"]]} if "seg" in said else {}
    sizes = [each.original_size for each in samples]
    recorder.add(Seen([each.image_id for each in samples], sizes, images, said, truths_of(samples), sure))
    observations = recorder.observations()
    boxes = {name: BoxFindings(observed, threshold) for name, observed in observations.boxes.items()}
    return Analysis(EvaluationResult({}), classes, observations, boxes)
