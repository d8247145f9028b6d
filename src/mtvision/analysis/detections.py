"""Detections and objects of a whole data set, as columns."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Detections(NamedTuple):
    """What was detected in all images; rows of one image stand together, images in their order.

    Attributes:
        image: ``(B,)`` index of the image.
        boxes: ``(B, 4)`` xyxy pixels of the original image.
        labels: ``(B,)`` 0-based.
        scores: ``(B,)`` in [0, 1].
    """

    image: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Detections":
        """Return some of the rows, by a flag a row or by indices."""
        return Detections(*(column[rows] for column in self))


class Objects(NamedTuple):
    """What is there to be detected in all images; rows of one image stand together, images in their order.

    Attributes:
        image: ``(M,)`` index of the image.
        boxes: ``(M, 4)`` xyxy pixels of the original image.
        labels: ``(M,)`` 0-based.
        difficult: ``(M,)``: neither to be found nor wrong to be found.
    """

    image: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Objects":
        """Return some of the rows, by a flag a row or by indices."""
        return Objects(*(column[rows] for column in self))
