"""Pictures of the images in which two runs differ most."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtvision.types import Classes, Prediction
from mtvision.visualize.draw import draw
from mtvision.visualize.panel import scaled
from mtvision.visualize.tiles import fitting_text

if TYPE_CHECKING:
    from PIL.Image import Image

_HEIGHT, _GAP, _CAPTION = 200, 6, 16  # pixels


@dataclass(frozen=True, eq=False)
class Example:
    """One image and what two runs say of it.

    Attributes:
        image_id: of the data set.
        image: uint8 ``(H, W, 3)``.
        truth: in the form of a prediction.
        predictions: of the first run, and of the other.
        scores: of the image, likewise.
        score_thresholds: from which on detections are drawn, likewise.
    """

    image_id: str
    image: NDArray[np.uint8]
    truth: Prediction
    predictions: tuple[Prediction, Prediction]
    scores: tuple[float, float]
    score_thresholds: tuple[float, float]


def write_examples(examples: Sequence[Example], names: tuple[str, str], classes: Classes | None, path: Path) -> Path:
    """Write a PNG with a row an image: the image, its truth, and what each run says, with its score.

    Args:
        examples: at least one.
        names: of the two runs.
        classes: names.
        path: the PNG; its folder is there.

    Returns:
        ``path``.
    """
    from PIL import Image, ImageDraw

    rows = [list(_pictures(example, names, classes)) for example in examples]
    width = max(sum(picture.width + _GAP for _, picture in row) for row in rows) + _GAP
    step = _HEIGHT + _CAPTION + _GAP
    canvas = Image.new("RGB", (width, len(rows) * step + _GAP), "white")
    captions = ImageDraw.Draw(canvas)
    for place, row in enumerate(rows):
        x, y = _GAP, _GAP + place * step
        for caption, picture in row:
            captions.text((x, y), fitting_text(caption, picture.width), fill="black")
            canvas.paste(picture, (x, y + _CAPTION))
            x += picture.width + _GAP
    canvas.save(path)
    return path


def _pictures(example: Example, names: tuple[str, str], classes: Classes | None) -> "list[tuple[str, Image]]":
    """Return each picture of a row with its caption."""
    said = [(example.image_id, example.image), ("truth", draw(example.image, example.truth, classes))]
    columns = zip(names, example.predictions, example.scores, example.score_thresholds, strict=True)
    for name, prediction, score, threshold in columns:
        said.append((f"{score:.3f}  {name}", draw(example.image, prediction, classes, score_threshold=threshold)))
    return [(caption, scaled(picture, _HEIGHT)) for caption, picture in said]
