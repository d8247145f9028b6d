"""Masks, boxes, names and scores on a picture."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtvision.data.classes import classes_from_names
from mtvision.data.images import ImageSource, as_sample
from mtvision.types import VOID, Classes

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Color = tuple[int, int, int]
_VOID_COLOR: Color = (224, 224, 192)


def draw(
    image: ImageSource,
    prediction: Mapping[str, Any],
    classes: Classes | Sequence[str] | None = None,
    *,
    score_threshold: float = 0.3,
    mask_opacity: float = 0.5,
) -> NDArray[np.uint8]:
    """Put mask, boxes, names and scores on a copy of an image.

    Args:
        image: RGB, in any form that `MultiTaskModel.predict` takes: a path, a PIL image, an array ``(H, W, 3)`` or a
            tensor ``(3, H, W)``, uint8 or float in [0, 1].
        prediction: of `MultiTaskModel.predict` for this image, on any device; a truth with ``seg`` and ``det`` is drawn
            likewise, and a part that is missing or None is left out.
        classes: `Classes`, or the names of the objects in the order of their labels; numbers where there are none.
        score_threshold: detections below it are left out; boxes without scores are all drawn.
        mask_opacity: of the classes' colours, in [0, 1]; the background keeps the image.

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        DataError: if a file is missing or no image, or a value has not the shape, type or range of one.
        ValueError: if the mask is not of the image's size.
    """
    from PIL import Image, ImageDraw

    picture = as_sample(image).image
    if classes is not None and not isinstance(classes, Classes):
        classes = classes_from_names(list(classes))
    mask = prediction.get("seg")
    if mask is not None:
        picture = _blend(picture, _numpy(mask), mask_opacity)
    canvas = Image.fromarray(picture)
    objects = prediction.get("det")
    if objects is not None:
        _draw_boxes(ImageDraw.Draw(canvas), objects, classes, score_threshold, canvas.size)
    return np.asarray(canvas).copy()


def class_color(index: int) -> Color:
    """Return the colour of a class by its mask value: Pascal VOC's map, which spreads the index's bits over R, G, B.

    Example:
        >>> class_color(1), class_color(15)
        ((128, 0, 0), (192, 128, 128))
    """
    red = green = blue = 0
    for shift in range(7, -1, -1):
        red |= (index & 1) << shift
        green |= (index >> 1 & 1) << shift
        blue |= (index >> 2 & 1) << shift
        index >>= 3
    return red, green, blue


def _numpy(values: Any) -> NDArray[Any]:
    """Return an array of a tensor of any device and kind, or of whatever NumPy takes."""
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return np.asarray((values.float() if values.is_floating_point() else values).numpy())  # NumPy has no bfloat16


def _blend(picture: NDArray[np.uint8], mask: NDArray[Any], opacity: float) -> NDArray[np.uint8]:
    if mask.shape != picture.shape[:2]:
        raise ValueError(
            f"the mask is {mask.shape[0]} x {mask.shape[1]}, the image {picture.shape[0]} x {picture.shape[1]}"
        )
    colors = np.array([class_color(i) for i in range(256)], dtype=np.float32)
    colors[VOID] = _VOID_COLOR
    mixed = (1 - opacity) * picture + opacity * colors[mask]
    return np.where((mask == 0)[..., None], picture, mixed.round().astype(np.uint8))


def _draw_boxes(
    canvas: "ImageDraw", objects: Mapping[str, Any], classes: Classes | None, threshold: float, size: tuple[int, int]
) -> None:
    from PIL import ImageFont

    boxes, labels = _numpy(objects["boxes"]).reshape(-1, 4), _numpy(objects["labels"])
    scores = _numpy(objects["scores"]) if "scores" in objects else None
    width = max(1, round(max(size) / 250))
    font = ImageFont.load_default(size=max(10, round(max(size) / 32)))
    for i in range(len(boxes) - 1, -1, -1):  # the best detection last, so that it lies on top
        if scores is not None and scores[i] < threshold:
            continue
        name, color = _name_and_color(int(labels[i]), classes)
        text = name if scores is None else f"{name} {scores[i]:.2f}"
        x1, y1, x2, y2 = (float(value) for value in boxes[i])
        canvas.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=color, width=width)
        left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
        x, y = min(x1, max(size[0] - right, 0)), max(y1 - bottom - 1, 0)
        canvas.rectangle((x + left - 1, y + top - 1, x + right + 1, y + bottom + 1), fill=color)
        canvas.text((x, y), text, fill=_readable_on(color), font=font)


def _name_and_color(label: int, classes: Classes | None) -> tuple[str, Color]:
    """Give a box the colour of the mask's class of the same name, so that the two tasks can be compared by eye."""
    if classes is None or label >= len(classes.detection):
        return str(label), class_color(label + 1)
    name = classes.detection[label]
    index = classes.segmentation.index(name) if name in classes.segmentation else label + 1
    return name, class_color(index)


def _readable_on(color: Color) -> Color:
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
