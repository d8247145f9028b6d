"""Predictions for so many images that they are not held together."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.inference.predictor import Predictor
from mtvision.model import MultiTaskModel, chunks
from mtvision.types import Prediction

WORTH_SHOWING = 0.3
"""Score from which on a detection is shown, where nothing else was said."""


class Picture(NamedTuple):
    """An image on its way through a predictor.

    Attributes:
        id: a whole number.
        name: that it is listed by.
        pixels: uint8 ``(H, W, 3)`` RGB.
        place: where its results go, without suffix; empty where it has none of its own.
    """

    id: int
    name: str
    pixels: NDArray[np.uint8]
    place: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]


def as_predictor(model_or_run: Predictor | MultiTaskModel | str | Path, batch_size: int) -> Predictor:
    """Return a predictor as it is, and one with a single view around a model or the folder of a run."""
    if isinstance(model_or_run, Predictor):
        return model_or_run
    return Predictor(model_or_run, batch_size=batch_size)


def shown_from(score_threshold: float | None, predictor: Predictor) -> float | None:
    """Return the score below which detections are dropped: as given, else what is worth to be shown.

    A predictor with thresholds of its own has the last word where nothing was given.
    """
    if score_threshold is None and not predictor.has_thresholds:
        return WORTH_SHOWING
    return score_threshold


def predicted(
    predictor: Predictor, pictures: Iterable[Picture], score_threshold: float | None
) -> Iterator[tuple[Picture, Prediction]]:
    """Yield each picture with its prediction; a batch of them at a time is held."""
    for batch in chunks(pictures, predictor.batch_size):
        predictions = predictor.predict([picture.pixels for picture in batch], score_threshold=score_threshold)
        yield from zip(batch, predictions, strict=True)
