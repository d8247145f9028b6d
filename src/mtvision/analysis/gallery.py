"""The images that a model predicts best and worst, and what can be measured about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.analysis.analysis import Analysis
from mtvision.analysis.image_reasons import KINDS, correlations, outer_sides
from mtvision.analysis.pictures import ImageViews
from mtvision.errors import DataError, choices_hint
from mtvision.types import Sample
from mtvision.visualize.tiles import as_jpeg, tiles

CARD_WIDTH = 640
"""Pixels of a picture at most, where it has more than one part."""


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
        score: by which it was chosen.
        scores: by task: of a mask mIoU of the image, of boxes F1 at IoU 0.5.
        reasons: those that matter first.
        picture: image, truth, prediction and wrong pixels of the mask, a JPEG.
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


def gallery(analysis: Analysis, data: Sequence[Sample], *, number: int = 4, task: str | None = None) -> Gallery:
    """Show the best and the worst images with what is unusual about them.

    A mask scores the mean IoU over the classes in its truth or prediction; boxes score F1 at IoU 0.5, by the detections
    that are used; an image scores the mean of its tasks. Images are ranked among those that are annotated for as many
    tasks as any. An image of background only scores 1 as soon as nothing is found in it: where at least twice
    ``number`` images have an object (a class other than background in the mask, or a box), the best are taken from
    these; ``scores`` holds all. The reasons are what is unusual about an image, and ``correlations`` tells which of
    them go along with the score.

    Args:
        analysis: of the model.
        data: that was scored; the pictures are drawn from it.
        number: of images at either end; at most half of the images.
        task: images are ranked by this task alone; None: by all.

    Raises:
        DataError: if no image is annotated for a task that was looked at, or the data are not those of the analysis.
        ValueError: if ``number`` is below 1, or the analysis has no such task.
    """
    if number < 1:
        raise ValueError(f"number: expected at least 1, got {number}")
    tasks = [*analysis.observations.masks, *analysis.boxes]
    if task is not None and task not in tasks:
        raise ValueError(f"task: the analysis has no {task!r}{choices_hint(task, tasks)}")
    scores, table = _scores(analysis.images, tasks, task), analysis.observations.facts
    if scores.empty or scores["score"].isna().all():
        raise DataError("gallery: no image is annotated for a task of the model that predicts masks or boxes")
    found, sides = correlations(table, scores), outer_sides(table)
    chosen = _both_ends(scores["score"], _have_objects(analysis, tasks if task is None else [task]), number)
    views = ImageViews(analysis, data)
    best, worst = (
        tuple(
            GalleryImage(
                analysis.observations.image_ids[place],
                float(scores["score"][place]),
                {str(name): float(value) for name, value in scores.loc[place].drop("score").dropna().items()},
                _reasons(table.loc[place], sides.loc[place], found, end),
                as_jpeg(tiles(views.views(place), CARD_WIDTH)),
            )
            for place in places
        )
        for end, places in zip((1, -1), chosen, strict=True)
    )
    everything = pd.concat([analysis.images[["image_id"]], scores, table], axis=1)
    return Gallery(best, worst, everything, found, _threshold(analysis))


def _scores(images: pd.DataFrame, tasks: Sequence[str], task: str | None) -> pd.DataFrame:
    """Return the score that images are ranked by, and those of the tasks that have any."""
    columns = {name: images[name] for name in tasks if images[name].notna().any()}
    return pd.DataFrame({"score": images["score"] if task is None else images[task], **columns})


def _threshold(analysis: Analysis) -> float | None:
    found = [boxes for boxes in analysis.boxes.values() if boxes.observed.annotated.any()]
    return found[0].score_threshold if found else None


def _have_objects(analysis: Analysis, tasks: Sequence[str]) -> NDArray[np.bool_]:
    """Return in which images there is something to find for some tasks, ``(N,)``."""
    number = len(analysis.observations.image_ids)
    filled = np.zeros(number, dtype=np.bool_)
    for task in tasks:
        if task in analysis.boxes:
            filled[analysis.boxes[task].objects.image] = True
        else:
            filled |= analysis.observations.masks[task].counts.true[:, 1:].any(axis=1)
    return filled


def _both_ends(scores: pd.Series, filled: NDArray[np.bool_], number: int) -> tuple[list[int], list[int]]:
    """Return the places of the best and of the worst images; no image is both."""
    order = [int(place) for place in scores.dropna().sort_values(ascending=False, kind="stable").index]
    number = max(min(number, len(order) // 2), 1)
    with_objects = [place for place in order if filled[place]]
    # with twice as many, the best of them still rank above the worst of all
    best = with_objects if len(with_objects) >= 2 * number else order
    return best[:number], order[::-1][: min(number, len(order) - number)]


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
