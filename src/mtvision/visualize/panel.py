"""Image, truth and prediction side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtvision.types import Classes, Prediction, Sample
from mtvision.visualize.draw import draw

if TYPE_CHECKING:
    from PIL.Image import Image

_GAP = 6
_CAPTION = 18


def write_panel(
    samples: Sequence[Sample],
    predictions: Sequence[Prediction],
    classes: Classes | None,
    path: Path,
    *,
    height: int = 200,
    score_threshold: float = 0.3,
) -> Path:
    """Write a PNG of what `draw_panel` draws.

    Args:
        samples: annotated images.
        predictions: one for each.
        classes: names.
        path: the PNG; its folder is made if it is missing.
        height: of a row, in pixels.
        score_threshold: detections below it are left out.

    Returns:
        ``path``.
    """
    panel = draw_panel(samples, predictions, classes, height=height, score_threshold=score_threshold)
    path.parent.mkdir(parents=True, exist_ok=True)
    panel.save(path)
    return path


def draw_panel(
    samples: Sequence[Sample],
    predictions: Sequence[Prediction],
    classes: Classes | None,
    *,
    height: int = 200,
    score_threshold: float = 0.3,
) -> "Image":
    """Return a picture with a row an image: the image, its truth, the prediction.

    Args:
        samples: annotated images.
        predictions: one for each.
        classes: names.
        height: of a row, in pixels.
        score_threshold: detections below it are left out.
    """
    from PIL import Image, ImageDraw

    rows = []
    for sample, prediction in zip(samples, predictions, strict=True):
        truth = draw(sample.image, truth_of(sample), classes)
        seen = draw(sample.image, prediction, classes, score_threshold=score_threshold)
        rows.append([scaled(picture, height) for picture in (sample.image, truth, seen)])
    width = max(sum(picture.width + _GAP for picture in row) for row in rows) + _GAP
    canvas = Image.new("RGB", (width, len(rows) * (height + _GAP) + _CAPTION), "white")
    caption = ImageDraw.Draw(canvas)
    for index, row in enumerate(rows):
        x = _GAP
        for title, picture in zip(("image", "truth", "prediction"), row, strict=True):
            canvas.paste(picture, (x, _CAPTION + index * (height + _GAP)))
            if index == 0:
                caption.text((x, 3), title, fill="black")
            x += picture.width + _GAP
    return canvas


def truth_of(sample: Sample) -> Mapping[str, Any]:
    """Return a sample's annotations in the form of a prediction; a part that nobody annotated is None."""
    objects = None if sample.boxes is None else {"boxes": sample.boxes, "labels": sample.labels}
    return {"seg": sample.mask, "det": objects}


def scaled(picture: Any, height: int) -> "Image":
    """Return a picture ``(H, W, 3)`` at another height, in pixels, of the same shape."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    return image.resize((max(round(image.width * height / image.height), 1), height), Image.Resampling.BILINEAR)
