"""The images that a model predicts best and worst, and what can be measured about them."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mtvision.analysis.image_reasons import KINDS, ImageFacts, correlations, facts_table, measure, outer_sides
from mtvision.analysis.image_scores import Matches, best_threshold, f1, mask_miou, match_boxes
from mtvision.errors import DataError
from mtvision.model import MultiTaskModel
from mtvision.types import VOID, Classes, Prediction, Sample
from mtvision.visualize.panel import write_panel

_BATCH = 8
_HEIGHT = 192  # pixels of a picture
_DRAWN_FROM = 0.3  # score of drawn boxes where no threshold was chosen


@dataclass(frozen=True)
class Reason:
    """Something measured of an image that is unusual in its data set.

    Attributes:
        text: one line, with the number.
        matters: whether over all images it goes along with such scores, see `correlations`.
    """

    text: str
    matters: bool


@dataclass(frozen=True)
class GalleryImage:
    """One image.

    Attributes:
        image_id: of the data set.
        score: mean of ``scores``.
        scores: by task: ``seg`` mIoU of the image, ``det`` F1 at IoU 0.5.
        reasons: those that matter first.
        picture: image, truth and prediction side by side, a JPEG.
    """

    image_id: str
    score: float
    scores: Mapping[str, float]
    reasons: tuple[Reason, ...]
    picture: bytes


@dataclass(frozen=True)
class Gallery:
    """Best and worst images.

    Attributes:
        best: from the best on.
        worst: from the worst on.
        scores: a row an image: ``image_id, score``, a column a task, and the measures by key.
        correlations: whether what is measured goes along with the score, see `correlations`.
        score_threshold: of the detections; None where boxes were not scored.
    """

    best: tuple[GalleryImage, ...]
    worst: tuple[GalleryImage, ...]
    scores: pd.DataFrame
    correlations: pd.DataFrame
    score_threshold: float | None


def gallery(model: MultiTaskModel, data: Sequence[Sample], *, number: int = 4) -> Gallery:
    """Score every image, and show the best and the worst with what is unusual about them.

    A mask scores the mean IoU over the classes in truth or prediction of the image; boxes score F1 at IoU 0.5, with the
    score threshold that gives the best F1 over the whole data set; an image scores the mean of its tasks. Images are
    ranked among those that are annotated for as many tasks as any. An image of background only scores 1 as soon as
    nothing is found in it: where at least twice ``number`` images have an object (a class other than background in the
    mask, or a box), the best are taken from these; ``scores`` holds all. The reasons are what is unusual about an
    image, and ``correlations`` tells which of them go along with the score.

    Args:
        model: trained; predicts at the images' own sizes.
        data: annotated images, without augmentation.
        number: of images at either end; at most half of the images.

    Raises:
        DataError: if no image is annotated for segmentation or detection, or the model does neither.
        ValueError: if ``number`` is below 1.
    """
    if number < 1:
        raise ValueError(f"number: expected at least 1, got {number}")
    ids, facts, filled, scores, threshold = _score_all(model, data)
    if scores.empty or scores.isna().all(axis=None):
        raise DataError("gallery: no image is annotated for a task of the model that is segmentation or detection")
    tasks = list(scores)
    most = int(scores.notna().sum(axis=1).max())
    scores.insert(0, "score", scores.mean(axis=1).where(scores.notna().sum(axis=1) == most))
    table = facts_table(facts)
    found, sides = correlations(table, scores), outer_sides(table)
    chosen = _both_ends(scores["score"], filled, number)
    best, worst = (
        tuple(
            GalleryImage(
                ids[place],
                float(scores["score"][place]),
                dict(scores.loc[place, tasks].dropna()),
                _reasons(table.loc[place], sides.loc[place], found, end),
                picture,
            )
            for place, picture in zip(places, _pictures(model, data, places, threshold), strict=True)
        )
        for end, places in zip((1, -1), chosen, strict=True)
    )
    everything = pd.concat([pd.DataFrame({"image_id": ids}), scores, table], axis=1)
    return Gallery(best, worst, everything, found, threshold)


def _both_ends(scores: pd.Series, filled: Sequence[bool], number: int) -> tuple[list[int], list[int]]:
    """Return the places of the best and of the worst images; no image is both."""
    order = [int(place) for place in scores.dropna().sort_values(ascending=False, kind="stable").index]
    number = max(min(number, len(order) // 2), 1)
    with_objects = [place for place in order if filled[place]]
    # with twice as many, the best of them still rank above the worst of all
    best = with_objects if len(with_objects) >= 2 * number else order
    return best[:number], order[::-1][: min(number, len(order) - number)]


def _score_all(
    model: MultiTaskModel, data: Sequence[Sample]
) -> tuple[list[str], list[ImageFacts], list[bool], pd.DataFrame, float | None]:
    """Return ids, measures, which have objects, scores by task, and the score threshold.

    Predictions are forgotten once they are scored.
    """
    ids, facts, filled, masks, boxes = [], [], [], [], []
    for start in range(0, len(data), _BATCH):
        samples = [data[index] for index in range(start, min(start + _BATCH, len(data)))]
        for sample, prediction in zip(samples, model.predict([sample.image for sample in samples]), strict=True):
            ids.append(sample.image_id)
            facts.append(measure(sample, model.classes))
            filled.append(_has_objects(sample, prediction))
            masks.append(_mask_score(sample, prediction))
            boxes.append(_box_matches(sample, prediction))
    threshold = None
    columns: dict[str, list[float]] = {}
    if not np.isnan(masks).all():
        columns["seg"] = masks
    known = [each for each in boxes if each is not None]
    if known:
        threshold = best_threshold(known)
        columns["det"] = [float("nan") if each is None else f1(each, threshold) for each in boxes]
    return ids, facts, filled, pd.DataFrame(columns), threshold


def _has_objects(sample: Sample, prediction: Prediction) -> bool:
    """Return whether there is something to find, in what the model predicts."""
    in_mask = sample.mask is not None and bool((~np.isin(sample.mask, [0, VOID])).any())
    in_boxes = sample.boxes is not None and len(sample.boxes) > 0
    return (in_mask and prediction.get("seg") is not None) or (in_boxes and prediction.get("det") is not None)


def _mask_score(sample: Sample, prediction: Prediction) -> float:
    if sample.mask is None or prediction.get("seg") is None:
        return float("nan")
    return mask_miou(prediction["seg"], sample.mask)


def _box_matches(sample: Sample, prediction: Prediction) -> Matches | None:
    if sample.boxes is None or sample.labels is None or sample.difficult is None or prediction.get("det") is None:
        return None
    return match_boxes(prediction["det"], sample.boxes, sample.labels, sample.difficult)


def _reasons(values: pd.Series, sides: pd.Series, found: pd.DataFrame, end: int) -> tuple[Reason, ...]:
    """Return what is unusual about an image at one end of the ranking, 1 best and -1 worst; what matters first."""
    shown = {row.key: np.sign(row.rho) for row in found.itertuples() if row.shown}
    reasons = []
    for key, kind in KINDS.items():
        side = int(sides[key])
        if side:
            text = (kind.high if side > 0 else kind.low).format(kind.text(float(values[key])))
            reasons.append(Reason(text, bool(shown.get(key, 0) * side == end)))
    return tuple(sorted(reasons, key=lambda reason: not reason.matters))


def _pictures(
    model: MultiTaskModel, data: Sequence[Sample], places: Sequence[int], threshold: float | None
) -> list[bytes]:
    samples = [data[place] for place in places]
    predictions = model.predict([sample.image for sample in samples])
    return [
        _picture(sample, prediction, model.classes, _DRAWN_FROM if threshold is None else threshold)
        for sample, prediction in zip(samples, predictions, strict=True)
    ]


def _picture(sample: Sample, prediction: Prediction, classes: Classes | None, threshold: float) -> bytes:
    """Return a JPEG of image, truth and prediction, drawn at the size at which they are shown: names stay readable."""
    scale = _HEIGHT / sample.image.shape[0]
    small = replace(
        sample,
        image=_resized(sample.image, smooth=True),
        mask=None if sample.mask is None else _resized(sample.mask),
        boxes=None if sample.boxes is None else sample.boxes * np.float32(scale),
    )
    shown = dict(prediction)
    if shown.get("seg") is not None:
        shown["seg"] = torch.from_numpy(_resized(shown["seg"].cpu().numpy().astype(np.uint8)))
    if shown.get("det") is not None:
        shown["det"] = {**shown["det"], "boxes": shown["det"]["boxes"] * scale}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "panel.jpg"
        return write_panel([small], [shown], classes, path, height=_HEIGHT, score_threshold=threshold).read_bytes()


def _resized(values: NDArray[np.uint8], *, smooth: bool = False) -> NDArray[Any]:
    from PIL import Image

    picture = Image.fromarray(values)
    size = (max(round(picture.width * _HEIGHT / picture.height), 1), _HEIGHT)
    return np.array(picture.resize(size, Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST))
