"""One call that scores a model and looks into what it gets wrong."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from mtvision.analysis.analysis import Analysis, SliceColumns
from mtvision.analysis.box_findings import BoxFindings
from mtvision.analysis.recorder import Recorder
from mtvision.analysis.slices import read_columns, slice_rows
from mtvision.errors import ConfigError
from mtvision.model import MultiTaskModel
from mtvision.training.checkpoint import load_model
from mtvision.training.evaluate import Reading, Scored, observe
from mtvision.types import Classes, Sample


def analyze(
    model: Scored,
    data: Sequence[Sample],
    *,
    protocol: str | Sequence[str] | None = None,
    slices: SliceColumns | None = None,
    score_threshold: float | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    on_error: Literal["raise", "skip"] = "raise",
) -> Analysis:
    """Score a model as `mtvision.evaluate` does, and look into what it gets wrong.

    Masks are looked at by pixels that are confused, boxes by types of error (TIDE), both by calibration, and whether
    they agree with each other; each by size, truncation and rarity of objects and by the light of images. Of each image
    some hundred numbers and its mask as a small PNG are kept, so memory grows by a few kilobytes an image.

    Args:
        model: a model, a predictor around one, or the folder of a run.
        data: annotated images.
        protocol: one or several whose numbers are told too, see `mtvision.evaluate`.
        slices: results are told for each slice of these columns: a frame or a CSV with a column ``image_id``, or
            ``{column: {image_id: value}}``.
        score_threshold: from which boxes are used; None: the one that has the best F1 on these data.
        batch_size: images that go through the network together.
        num_workers: processes that load images.
        on_error: ``skip``: images that cannot be read are left out and named in ``result.skipped``.

    Raises:
        ConfigError: as `mtvision.evaluate`; or if the score threshold is outside [0, 1].
        DataError: as `mtvision.evaluate`; or if the columns do not fit the images.
    """
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise ConfigError([f"score_threshold: expected a number in [0, 1], got {score_threshold}"])
    columns = None if slices is None else _columns(slices, data)
    scored = load_model(model) if isinstance(model, str | Path) else model
    network = scored if isinstance(scored, MultiTaskModel) else scored.model
    classes = getattr(data, "classes", None) or network.classes or Classes((), ())
    recorder = Recorder(network, classes)
    reading = Reading(batch_size, num_workers, on_error)
    result = observe(scored, data, [recorder], protocol=protocol, reading=reading)
    observations = recorder.observations()
    boxes = {name: BoxFindings(observed, score_threshold) for name, observed in observations.boxes.items()}
    if columns is not None and result.skipped:
        columns = columns[columns.index.isin(observations.image_ids)]
    return Analysis(result, classes, observations, boxes, columns)


def _columns(slices: SliceColumns, data: Sequence[Sample]) -> pd.DataFrame:
    """Return the columns by image id; what is wrong with them is told before any image is scored, where that is known.

    Raises:
        DataError: as `slice_rows`.
    """
    columns = read_columns(slices)
    image_ids = getattr(data, "image_ids", None)
    if image_ids is not None:
        slice_rows(columns, image_ids)
    return columns
