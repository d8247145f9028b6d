"""The pictures of a run's report: files of the gallery, of errors and of all images, and panels of them."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.analysis.analysis import Analysis
from mtvision.analysis.error_examples import ErrorExample, box_examples, disagreement_examples, mask_examples
from mtvision.analysis.gallery import Gallery, GalleryImage, gallery
from mtvision.analysis.pictures import ImageViews
from mtvision.report.files import free_path
from mtvision.types import Sample
from mtvision.visualize.tiles import as_jpeg, write_column

MOST_THUMBNAILS = 200
"""Images up to which each has a small picture in the table of all."""

_THUMBNAIL = 84  # pixels high
_QUALITY = 60


class Shown(NamedTuple):
    """An image of the galleries.

    Attributes:
        image: of the gallery.
        roles: such as ``worst 1 by det``.
        path: of its picture.
    """

    image: GalleryImage
    roles: tuple[str, ...]
    path: Path


Pictured = tuple[ErrorExample, Path]
"""An example with the file of its picture."""


class RunPictures(NamedTuple):
    """What is shown in pictures.

    Attributes:
        joint: the gallery of all tasks together.
        worst: images of all galleries, those of all tasks together first, each once.
        best: likewise.
        boxes: examples by type of error.
        masks: of confused classes.
        disagreements: of the tasks.
        thumbnails: by the place of an image; empty for many images.
    """

    joint: Gallery
    worst: tuple[Shown, ...]
    best: tuple[Shown, ...]
    boxes: Mapping[str, Sequence[Pictured]]
    masks: Sequence[Pictured]
    disagreements: Sequence[Pictured]
    thumbnails: Mapping[int, Path]


def write_run_pictures(analysis: Analysis, data: Sequence[Sample], folder: Path, number: int) -> RunPictures:
    """Draw and write all pictures but the plots.

    Args:
        analysis: of the model.
        data: that was scored.
        folder: of the report; ``pictures`` is made in it.
        number: of images at either end.

    Raises:
        DataError: as `gallery`.
    """
    target = folder / "pictures"
    target.mkdir(parents=True, exist_ok=True)
    joint = gallery(analysis, data, number=number)
    galleries = {"": joint}
    tasks = [task for task in (*analysis.observations.masks, *analysis.boxes) if analysis.images[task].notna().any()]
    if len(tasks) > 1:
        few = max(number // 2, 1)
        galleries |= {f" by {task}": gallery(analysis, data, number=few, task=task) for task in tasks}
    worst, best = (_write_gallery(galleries, end, target) for end in ("worst", "best"))
    paths: list[Path] = []
    return RunPictures(
        joint,
        worst,
        best,
        {kind: _write_examples(rows, target, paths) for kind, rows in box_examples(analysis, data).items()},
        _write_examples(mask_examples(analysis, data), target, paths),
        _write_examples(disagreement_examples(analysis, data), target, paths),
        _thumbnails(analysis, data, target),
    )


def _write_gallery(galleries: Mapping[str, Gallery], end: str, folder: Path) -> tuple[Shown, ...]:
    """Write the pictures of one end of all galleries, each once."""
    roles: dict[str, list[str]] = {}
    images: dict[str, GalleryImage] = {}
    for how, found in galleries.items():
        for place, image in enumerate(found.worst if end == "worst" else found.best, start=1):
            roles.setdefault(image.image_id, []).append(f"{end} {place}{how}")
            images.setdefault(image.image_id, image)
    shown = []
    for place, (image_id, image) in enumerate(images.items(), start=1):
        path = folder / f"{end}_{place}.jpg"
        path.write_bytes(image.picture)
        shown.append(Shown(image, tuple(roles[image_id]), path))
    return tuple(shown)


def _write_examples(examples: Sequence[ErrorExample], folder: Path, taken: list[Path]) -> list[Pictured]:
    """Write the pictures of examples to files that are not taken, and take them."""
    pictured = []
    for example in examples:
        path = free_path(folder, f"{example.kind}_{example.title}", ".jpg", taken)
        path.write_bytes(example.picture)
        taken.append(path)
        pictured.append((example, path))
    return pictured


def _thumbnails(analysis: Analysis, data: Sequence[Sample], folder: Path) -> dict[int, Path]:
    number = len(analysis.observations.image_ids)
    if number > MOST_THUMBNAILS:
        return {}
    views, paths = ImageViews(analysis, data), {}
    for place in range(number):
        paths[place] = folder / f"image_{place}.jpg"
        paths[place].write_bytes(as_jpeg(views.prediction(place, height=_THUMBNAIL), _QUALITY))
    return paths


def write_panels(pictures: RunPictures, folder: Path) -> tuple[Path, ...]:
    """Write ``best.png`` and ``worst.png``, and ``errors_<class>.png`` for each class with examples.

    Args:
        pictures: of the report.
        folder: is made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ends = {"best": pictures.joint.best, "worst": pictures.joint.worst}
    columns = {
        end: [(f"{image.image_id}  {image.score:.2f}", _decoded(image.picture)) for image in images]
        for end, images in ends.items()
    }
    by_class: dict[str, list[tuple[str, NDArray[np.uint8]]]] = {}
    for kind, rows in pictures.boxes.items():
        for row, _ in rows:
            by_class.setdefault(row.title, []).append((f"{kind}  {row.image_id}", _decoded(row.picture)))
    columns |= {f"errors_{name}": rows for name, rows in by_class.items()}
    paths: list[Path] = []
    for name, column in columns.items():
        if column:
            paths.append(write_column(column, free_path(folder, name, ".png", paths)))
    return tuple(paths)


def _decoded(picture: bytes) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.open(BytesIO(picture)).convert("RGB"))
