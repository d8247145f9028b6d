"""Of each error the clearest example, as a picture of its place in the image."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.analysis.agreement import VERDICTS
from mtvision.analysis.analysis import Analysis
from mtvision.analysis.box_errors import ERROR_NAMES, Verdict
from mtvision.analysis.box_findings import BoxFindings
from mtvision.analysis.joint_tables import counted_parts
from mtvision.analysis.mask_counts import MaskCounts
from mtvision.analysis.mask_tables import confused_pairs
from mtvision.analysis.pictures import ImageViews, around
from mtvision.ops.detection_matching import box_areas, paired_overlap
from mtvision.types import Sample
from mtvision.visualize.tiles import as_jpeg, tiles

MOST_CLASSES = 20
"""Of which a type of error has an example."""

_CROP = 112  # pixels high
_WIDEST = 640


@dataclass(frozen=True)
class ErrorExample:
    """An error in one image.

    Attributes:
        kind: type of error.
        title: class, or pair of classes.
        image_id: of the data set.
        text: what is wrong, in numbers.
        value: by which it was chosen among its like: score, or number of pixels.
        picture: truth and prediction there, a JPEG.
    """

    kind: str
    title: str
    image_id: str
    text: str
    value: float
    picture: bytes


def box_examples(analysis: Analysis, data: Sequence[Sample]) -> dict[str, list[ErrorExample]]:
    """Return for each type of error of the task ``det`` one example a class, by falling score.

    It is the detection of the highest score among those that are used, and of missed objects the largest. With more
    than 20 classes these are the 20 with the highest scores.

    Args:
        analysis: of the model.
        data: that was scored.

    Returns:
        By `ERROR_NAMES`; a type without errors is left out.
    """
    found = analysis.boxes.get("det")
    if found is None:
        return {}
    views, names = ImageViews(analysis, data), analysis.names("det", found.num_classes)
    examples = {
        name: [_of_detection(analysis, found, views, names, name, row) for row in worst_detections(found, name)]
        for name in ERROR_NAMES
        if name != "missed"
    }
    examples["missed"] = [_of_object(analysis, found, views, names, row) for row in largest_missed(found)]
    return {name: rows for name, rows in examples.items() if rows}


def worst_detections(found: BoxFindings, error: str) -> list[int]:
    """Return of each class the detection of the highest score with a type of error, rows of `BoxFindings.used`.

    Args:
        found: what is said of the boxes.
        error: one of `ERROR_NAMES`, but not ``missed``.
    """
    rows = np.flatnonzero(found.used_errors.verdicts == Verdict[error.upper()])
    return _first_of_each(rows, found.used.scores[rows], found.used.labels[rows])


def largest_missed(found: BoxFindings) -> list[int]:
    """Return of each class the largest object that is missed, by falling size."""
    rows = np.flatnonzero(found.used_errors.missed)
    return _first_of_each(rows, box_areas(found.objects.boxes[rows]), found.objects.labels[rows])


def _first_of_each(rows: NDArray[np.int64], values: NDArray[np.float64], labels: NDArray[np.int64]) -> list[int]:
    order = np.argsort(-values, kind="stable")
    first = np.sort(np.unique(labels[order], return_index=True)[1])
    return [int(row) for row in rows[order][first][:MOST_CLASSES]]


def _of_detection(
    analysis: Analysis, found: BoxFindings, views: ImageViews, names: Sequence[str], error: str, row: int
) -> ErrorExample:
    used, partner = found.used, int(found.used_errors.objects[row])
    place, score = int(used.image[row]), float(used.scores[row])
    box, drawn, text = used.boxes[row], {row}, f"score {score:.2f}"
    if partner >= 0:
        other = found.objects.boxes[partner]
        overlap = paired_overlap(used.boxes[[row]], found.objects.boxes[[partner]], np.array([False]))[0]
        text += f", overlaps {names[int(found.objects.labels[partner])]} by {overlap:.2f}"
        box = np.concatenate([np.minimum(box, other)[:2], np.maximum(box, other)[2:]])
        if error == "duplicate":
            same = (found.used_errors.objects == partner) & (found.used_errors.verdicts == Verdict.TRUE)
            drawn |= {int(other_row) for other_row in np.flatnonzero(same)}
    picture = _crop(views, place, box, analysis, drawn)
    return ErrorExample(
        error, names[int(used.labels[row])], analysis.observations.image_ids[place], text, score, picture
    )


def _of_object(
    analysis: Analysis, found: BoxFindings, views: ImageViews, names: Sequence[str], row: int
) -> ErrorExample:
    place, box = int(found.objects.image[row]), found.objects.boxes[row]
    width, height = box[2] - box[0], box[3] - box[1]
    return ErrorExample(
        "missed",
        names[int(found.objects.labels[row])],
        analysis.observations.image_ids[place],
        f"{width:.0f} x {height:.0f} pixels",
        float(width * height),
        _crop(views, place, box, analysis, None),
    )


def _crop(views: ImageViews, place: int, box: NDArray[np.float64], analysis: Analysis, drawn: set[int] | None) -> bytes:
    region = around(box, analysis.observations.image_sizes[place])
    parts = dict(views.views(place, region, _CROP, drawn))
    return as_jpeg(tiles([(name, parts[name]) for name in ("truth", "prediction")], _WIDEST))


def mask_examples(analysis: Analysis, data: Sequence[Sample], most: int = 6) -> list[ErrorExample]:
    """Return for the most confused pairs of classes of the task ``seg`` the image with most such pixels.

    Args:
        analysis: of the model.
        data: that was scored.
        most: pairs.
    """
    masks = analysis.observations.masks.get("seg")
    if masks is None:
        return []
    numbers = [str(label) for label in range(len(masks.counts.confusion))]
    names, views = analysis.names("seg", len(numbers)), ImageViews(analysis, data)
    examples = []
    for row in confused_pairs(masks.counts, numbers, most).itertuples():
        true, predicted = int(row.true), int(row.predicted)
        place, pixels = _most_confused(views, masks.counts, true, predicted)
        share = pixels / masks.counts.true[place, true]
        parts = dict(views.views(place, height=_CROP))
        shown = [(name, parts[name]) for name in ("truth", "prediction", "mask errors")]
        title, image_id = f"{names[true]} taken for {names[predicted]}", analysis.observations.image_ids[place]
        text = f"{pixels:,} pixels, {share:.0%} of the {names[true]} there"
        picture = as_jpeg(tiles(shown, _WIDEST))
        examples.append(ErrorExample("mask", title, image_id, text, float(pixels), picture))
    return examples


def _most_confused(views: ImageViews, counts: MaskCounts, true: int, predicted: int) -> tuple[int, int]:
    """Return the image with most pixels of one class taken for another, and their number.

    No image has more of them than wrong pixels of either class; so images are looked at from the largest such bound
    on, until none that is left can have more.
    """
    wrong = np.minimum((counts.true - counts.common)[:, true], (counts.predicted - counts.common)[:, predicted])
    best, most = 0, -1
    for place in np.argsort(-wrong, kind="stable"):
        if wrong[place] <= most:
            break
        pixels = views.confused_pixels(int(place), true, predicted)
        if pixels > most:
            best, most = int(place), pixels
    return best, most


DISAGREEMENTS: Mapping[str, str] = {
    VERDICTS[1]: "a box whose mask is of another class",
    VERDICTS[2]: "a box without its class in the mask",
    "no_box": "a region of the mask without a box",
}
"""The kinds of disagreement between the tasks, in words."""


def disagreement_examples(analysis: Analysis, data: Sequence[Sample], most: int = 4) -> list[ErrorExample]:
    """Return the clearest disagreements of the tasks: boxes of the highest scores, regions that are largest.

    Args:
        analysis: of the model.
        data: that was scored.
        most: of each kind.
    """
    if analysis.observations.agreement is None:
        return []
    found = analysis.boxes["det"]
    names, views = analysis.names("det", found.num_classes), ImageViews(analysis, data)
    parts = counted_parts(analysis.observations.agreement, found.score_threshold)
    boxes, regions = parts["boxes"], parts["regions"]
    ranked = {
        verdict: boxes[boxes["verdict"] == verdict].sort_values("score", ascending=False, kind="stable")
        for verdict in VERDICTS[1:3]
    }
    ranked["no_box"] = regions[~regions["agrees"]].sort_values("area", ascending=False, kind="stable")
    return [
        _of_disagreement(analysis, views, names, kind, row)
        for kind, frame in ranked.items()
        for row in islice(_in_new_images(frame), most)
    ]


def _in_new_images(frame: pd.DataFrame) -> Iterator[pd.Series]:
    """Yield the first row of each image: one image full of one mistake would hide the others."""
    for _, row in frame.drop_duplicates("image").iterrows():
        yield row


def _of_disagreement(
    analysis: Analysis, views: ImageViews, names: Sequence[str], kind: str, row: pd.Series
) -> ErrorExample:
    place, name = int(row["image"]), names[int(row["label"])]
    if kind == "no_box":
        text, value = f"{int(row['area']):,} pixels", float(row["area"])
    else:
        text, value = f"score {row['score']:.2f}, {row['own']:.0%} of the box is {name} in the mask", row["score"]
        if kind == VERDICTS[1]:
            other = analysis.classes.segmentation[int(row["dominant"])]
            text += f", {row['dominant_share']:.0%} is {other}"
    box = row[["x1", "y1", "x2", "y2"]].to_numpy(dtype=np.float64)
    return ErrorExample(
        kind, name, analysis.observations.image_ids[place], text, float(value), _crop(views, place, box, analysis, None)
    )
