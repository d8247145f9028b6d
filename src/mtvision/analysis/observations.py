"""What is kept of a data set that a model was scored on: counts of masks, rows of boxes, measures of images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.analysis.calibration import Reliability
from mtvision.analysis.detections import Detections, Objects
from mtvision.analysis.mask_counts import MaskCounts


@dataclass(frozen=True)
class MaskObservations:
    """What is kept of the masks of a task.

    Attributes:
        counts: of each image and class.
        reliability: of the pixels' confidences; without any decision where a predictor has no confidence.
        predicted: the predicted mask of each image as a PNG, for pictures.
    """

    counts: MaskCounts
    reliability: Reliability
    predicted: tuple[bytes, ...]


@dataclass(frozen=True)
class BoxObservations:
    """What is kept of the boxes of a task.

    Attributes:
        detections: in all images.
        objects: in the annotated images.
        annotated: ``(N,)`` whether somebody looked for objects in the image.
        num_classes: C.
    """

    detections: Detections
    objects: Objects
    annotated: NDArray[np.bool_]
    num_classes: int

    @property
    def judged(self) -> Detections:
        """The detections in annotated images: elsewhere nobody knows what is right."""
        return self.detections.take(self.annotated[self.detections.image])


@dataclass(frozen=True)
class Agreement:
    """What mask and boxes say about each other, see `judge_boxes` and `judge_regions`; each has a column ``image``.

    Attributes:
        boxes: a row a detection, against the predicted mask.
        regions: a row a region of the predicted mask, against the detections.
        true_boxes: a row an object, against the true mask.
        true_regions: a row a region of the true mask, against the objects.
    """

    boxes: pd.DataFrame
    regions: pd.DataFrame
    true_boxes: pd.DataFrame
    true_regions: pd.DataFrame


@dataclass(frozen=True)
class Observations:
    """What is kept of N images.

    Attributes:
        image_ids: in the order of the data.
        image_sizes: ``(N, 2)`` height and width as stored.
        facts: of `facts_table`, a row an image.
        masks: by task.
        boxes: by task.
        agreement: of the tasks ``seg`` and ``det``; None without both, or without a class that both have.
    """

    image_ids: tuple[str, ...]
    image_sizes: NDArray[np.int64]
    facts: pd.DataFrame
    masks: Mapping[str, MaskObservations]
    boxes: Mapping[str, BoxObservations]
    agreement: Agreement | None
