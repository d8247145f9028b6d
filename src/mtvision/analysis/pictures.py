"""Pictures of what a model says of an image, with what is wrong marked, from what was kept of it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.analysis.analysis import Analysis
from mtvision.analysis.box_errors import Verdict
from mtvision.analysis.box_findings import BoxFindings
from mtvision.errors import DataError
from mtvision.types import Sample
from mtvision.visualize.draw import draw
from mtvision.visualize.error_colors import ERROR_COLORS
from mtvision.visualize.marks import Mark, draw_marks, mask_errors
from mtvision.visualize.tiles import Captioned

LETTERS = {
    Verdict.TRUE: "",
    Verdict.IGNORED: "",
    Verdict.CLASSIFICATION: "C",
    Verdict.LOCALISATION: "L",
    Verdict.BOTH: "CL",
    Verdict.DUPLICATE: "D",
    Verdict.BACKGROUND: "B",
}
"""What stands before the name of a detection that is false."""

HEIGHT = 192
"""Pixels of a picture."""

_WIDEST = 1.6  # times as wide as high; of a wider image the height is less
_OPACITY = 0.45


class Region(NamedTuple):
    """A part of an image, in pixels of the original."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Located:
    """Finds the images of an analysis in the data set, where some may have been left out.

    Attributes:
        data: that was scored.
        image_ids: of the images that were scored, in the order of the data.
    """

    data: Sequence[Sample]
    image_ids: Sequence[str]

    def sample(self, place: int) -> Sample:
        """Return the image at a place of the analysis.

        Raises:
            DataError: if the data set has not this image where it can be.
        """
        left_out = len(self.data) - len(self.image_ids)
        for index in range(place, place + left_out + 1):
            try:
                sample = self.data[index]
            except DataError:
                continue  # it could not be read when it was scored either
            if sample.image_id == self.image_ids[place]:
                return sample
        raise DataError(
            f"the image {self.image_ids[place]!r} of the analysis is not in the data set where it was: "
            f"expected the {len(self.image_ids)} images that were scored, in their order, got {len(self.data)} images"
        )


class MarkedBox(NamedTuple):
    """A box of an image, and what is said of it.

    Attributes:
        box: ``(4,)`` xyxy pixels of the original image.
        kind: ``true``, ``ignored``, a type of error, or for an object ``found``, ``missed``, ``explained`` (by an error
            of a detection that refers to it) or ``difficult``.
        text: of the picture.
    """

    box: NDArray[np.float64]
    kind: str
    text: str


def marked_detections(
    found: BoxFindings, place: int, names: Sequence[str], only: Collection[int] | None = None
) -> list[MarkedBox]:
    """Return the detections of an image that are used, by falling score.

    Args:
        found: what is said of the boxes.
        place: of the image.
        names: of the classes.
        only: rows of `BoxFindings.used`; None: all of the image.
    """
    rows = np.flatnonzero(found.used.image == place)
    rows = rows[np.argsort(-found.used.scores[rows], kind="stable")]
    return [_detection(found, int(row), names) for row in rows if only is None or int(row) in only]


def _detection(found: BoxFindings, row: int, names: Sequence[str]) -> MarkedBox:
    verdict = Verdict(int(found.used_errors.verdicts[row]))
    name, score = names[int(found.used.labels[row])], found.used.scores[row]
    text = f"{LETTERS[verdict]} {name} {score:.2f}".strip()
    return MarkedBox(found.used.boxes[row], verdict.name.lower(), text)


def marked_objects(found: BoxFindings, place: int, names: Sequence[str]) -> list[MarkedBox]:
    """Return the objects of an image.

    Args:
        found: what is said of the boxes.
        place: of the image.
        names: of the classes.
    """
    objects, errors = found.objects, found.used_errors
    rows = np.flatnonzero(objects.image == place)
    kinds = np.select(
        [objects.difficult[rows], errors.found[rows], errors.missed[rows]],
        ["difficult", "found", "missed"],
        "explained",
    )
    return [
        MarkedBox(objects.boxes[row], str(kind), names[int(objects.labels[row])])
        for row, kind in zip(rows, kinds, strict=True)
    ]


class ImageViews:
    """Draws an image, its truth and its prediction, whole or in part.

    Masks are those of the task ``seg`` and boxes those of ``det``, as far as the analysis has them.

    Args:
        analysis: of the model.
        data: that was scored.
    """

    def __init__(self, analysis: Analysis, data: Sequence[Sample]) -> None:
        self._analysis = analysis
        self._located = Located(data, analysis.observations.image_ids)
        self._masks = analysis.observations.masks.get("seg")
        self._boxes = analysis.boxes.get("det")
        self._names = analysis.names("det", self._boxes.num_classes) if self._boxes else ()

    def views(
        self, place: int, region: Region | None = None, height: int = HEIGHT, detections: Collection[int] | None = None
    ) -> list[Captioned]:
        """Return image, truth, prediction and wrong pixels of the mask, each with its name, as far as they exist.

        Args:
            place: of the image in the analysis.
            region: part of the image; None: all of it.
            height: pixels of the pictures.
            detections: rows of `BoxFindings.used` that are drawn; None: all.
        """
        sample = self._located.sample(place)
        image_height, image_width = (int(side) for side in self._analysis.observations.image_sizes[place])
        part = region or Region(0, 0, image_width, image_height)
        size = _size(part, height)
        image = _cut(sample.image, part, (image_width, image_height), size, smooth=True)
        truth = None if sample.mask is None else _cut(sample.mask, part, (image_width, image_height), size)
        predicted = self._predicted(place, part, size)
        views = [("image", image)]
        if truth is not None or sample.boxes is not None:
            views.append(("truth", self._with(image, truth, self._true_marks(place, part, size))))
        views.append(("prediction", self._with(image, predicted, self._predicted_marks(place, part, size, detections))))
        if truth is not None and predicted is not None:
            views.append(("mask errors", mask_errors(image, truth, predicted)))
        return views

    def confused_pixels(self, place: int, true: int, predicted: int) -> int:
        """Return how many pixels of an image are of one class and taken for another; the task ``seg`` must be there.

        Args:
            place: of the image in the analysis.
            true: mask value.
            predicted: mask value.
        """
        truth, mask = self._located.sample(place).mask, self._mask(place)
        if truth is None:
            return 0
        if truth.shape != mask.shape:
            truth = _cut(truth, Region(0, 0, truth.shape[1], truth.shape[0]), truth.shape[::-1], mask.shape[::-1])
        return int(np.count_nonzero((truth == true) & (mask == predicted)))

    def prediction(self, place: int, region: Region | None = None, height: int = HEIGHT) -> NDArray[np.uint8]:
        """Return the prediction alone."""
        return dict(self.views(place, region, height))["prediction"]

    def _with(self, image: NDArray[Any], mask: NDArray[Any] | None, marks: Sequence[Mark]) -> NDArray[np.uint8]:
        return draw_marks(draw(image, {"seg": mask}, mask_opacity=_OPACITY), marks)

    def _predicted(self, place: int, part: Region, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        if self._masks is None:
            return None
        mask = self._mask(place)
        return _cut(mask, part, (mask.shape[1], mask.shape[0]), size)

    def _mask(self, place: int) -> NDArray[np.uint8]:
        from PIL import Image

        if self._masks is None:
            raise ValueError("the analysis has no masks of the task 'seg'")
        return np.asarray(Image.open(BytesIO(self._masks.predicted[place])))

    def _predicted_marks(
        self, place: int, part: Region, size: tuple[int, int], rows: Collection[int] | None
    ) -> list[Mark]:
        if self._boxes is None:
            return []
        said = marked_detections(self._boxes, place, self._names, rows)
        return [Mark(_moved(box.box, part, size), ERROR_COLORS[box.kind], box.text) for box in reversed(said)]

    def _true_marks(self, place: int, part: Region, size: tuple[int, int]) -> list[Mark]:
        if self._boxes is None:
            return []
        marks = []
        for box in marked_objects(self._boxes, place, self._names):
            color = ERROR_COLORS[_OBJECT_COLORS[box.kind]]
            marks.append(Mark(_moved(box.box, part, size), color, box.text, dashed=box.kind in ("missed", "difficult")))
        return marks


_OBJECT_COLORS = {"found": "true", "missed": "missed", "explained": "localisation", "difficult": "ignored"}


def _size(part: Region, height: int) -> tuple[int, int]:
    """Return width and height of the picture of a part."""
    wide, high = part.right - part.left, part.bottom - part.top
    scale = min(height / high, _WIDEST * height / wide)
    return max(round(wide * scale), 1), max(round(high * scale), 1)


def _cut(
    values: NDArray[np.uint8], part: Region, image_size: tuple[int, int], size: tuple[int, int], *, smooth: bool = False
) -> NDArray[np.uint8]:
    """Return a part of an image or mask at another size; the part is in pixels of ``image_size``, width and height."""
    from PIL import Image

    across, down = values.shape[1] / image_size[0], values.shape[0] / image_size[1]
    box = (part.left * across, part.top * down, part.right * across, part.bottom * down)
    how = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(values).resize(size, how, box=box)).copy()


def _moved(box: NDArray[np.float64], part: Region, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return a box of the original image in pixels of the picture of a part."""
    across, down = size[0] / (part.right - part.left), size[1] / (part.bottom - part.top)
    x1, y1, x2, y2 = (float(value) for value in box)
    return (x1 - part.left) * across, (y1 - part.top) * down, (x2 - part.left) * across, (y2 - part.top) * down


def around(box: NDArray[np.float64], image_size: NDArray[np.int64], context: float = 0.6, least: float = 48) -> Region:
    """Return a box with what is around it, within the image.

    Args:
        box: ``(4,)`` xyxy pixels.
        image_size: height and width.
        context: how much is added on each side, as a share of the box's longer side.
        least: pixels that the part is wide and high at least, if the image is.

    Example:
        >>> around(np.array([40.0, 40.0, 60.0, 80.0]), np.array([100, 200]), context=0.5)
        Region(left=20.0, top=20.0, right=80.0, bottom=100.0)
    """
    height, width = (float(side) for side in image_size)
    x1, y1, x2, y2 = (float(value) for value in box)
    margin = context * max(x2 - x1, y2 - y1)
    edges = []
    for low, high, side in ((x1, x2, width), (y1, y2, height)):
        more = margin + max(least - (high - low) - 2 * margin, 0) / 2
        edges.append((max(low - more, 0.0), min(high + more, side)))
    (left, right), (top, bottom) = edges
    left, top = min(left, width - 1), min(top, height - 1)  # a predicted box may lie outside
    return Region(left, top, max(right, left + 1), max(bottom, top + 1))
