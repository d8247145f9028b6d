"""What the writers share: files that appear whole, targets that are not overwritten unasked, masks as palette PNGs."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtvision.data.base import HasImageFiles
from mtvision.data.checking.contract import sample_problems
from mtvision.data.readers.file_set import is_plain_name
from mtvision.data.readers.files import read_image
from mtvision.errors import DataError
from mtvision.types import Classes, Sample

COPIED_SUFFIXES = (".jpg", ".jpeg", ".png")
"""Of image files that are copied as they are."""


def to_array(values: Any) -> NDArray[Any]:
    """Return a tensor on any device, or what NumPy takes for one, as an array; bfloat16 becomes float32."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    tensor: Tensor = values.detach().cpu()
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


@contextmanager
def new_file(path: Path, overwrite: bool) -> Iterator[IO[str]]:
    """Open a text file that appears in its place when it is whole, and not at all after an error.

    Raises:
        DataError: if there is such a file and ``overwrite`` is False, or it cannot be written.
    """
    refuse_existing(path, overwrite)
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # else, after a loss of power, the new name may stand for an empty file
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(place: Path, overwrite: bool) -> Iterator[Path]:
    """Give a folder beside ``place`` to write in, whose files move to ``place`` at the end; after an error none does.

    Lists of images (``.txt``, ``.json``) move last, so what they list is there. What else is in ``place`` stays.

    Raises:
        DataError: if a file is there already and ``overwrite`` is False, or it cannot be written.
    """
    with writing_to(place):
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=place) as name:
            temporary = Path(name)
            yield temporary
            files = sorted((path for path in temporary.rglob("*") if path.is_file()), key=_is_list)
            for path in files:
                refuse_existing(place / path.relative_to(temporary), overwrite)
            for path in files:
                target = place / path.relative_to(temporary)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)


def _is_list(path: Path) -> bool:
    return path.suffix in (".txt", ".json")


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn the errors of the file system into sentences.

    Raises:
        DataError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: it cannot be written ({error.strerror or error})") from None


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Complain about a file that is already there.

    Raises:
        DataError: if it is and ``overwrite`` is False.
    """
    if path.exists() and not overwrite:
        raise DataError(f"{path}: it is already there; choose another place, or overwrite=True to replace it")


def file_name(image_id: object, what: str) -> str:
    """Return an image's id as a name of files without folder; ``a/b`` becomes ``a_b``.

    Raises:
        DataError: if it cannot be one.
    """
    name = str(image_id).replace("/", "_")
    parts = str(image_id).split("/")
    if not all(map(is_plain_name, parts)) or any(character.isspace() for character in name):
        raise DataError(f"{what}: the image id {str(image_id)[:80]!r} cannot be the name of a file")
    return name


def checked_sample(dataset: Sequence[Sample], index: int, classes: Classes, what: str) -> Sample:
    """Return an item of a data set.

    Raises:
        DataError: if it breaks the contract of `Sample`, or is annotated with a class that is not there.
    """
    sample = dataset[index]
    problems = sample_problems(sample, classes)
    if problems:
        raise DataError("\n".join(f"{what}: item {index}: {problem}" for problem in problems))
    return sample


def has_further(sample: Sample) -> bool:
    """Tell whether a sample has annotations of tasks that neither format knows."""
    return any(values is not None for values in (*sample.maps.values(), *sample.values.values()))


def check_new_ids(seen: set[str], name: str, what: str) -> None:
    """Add a name to those of the images before.

    Raises:
        DataError: if it is one of them.
    """
    if name in seen:
        raise DataError(f"{what}: two images have the name '{name}'")
    seen.add(name)


def objects_of(sample: Sample) -> Iterator[tuple[list[float], int, bool]]:
    """Yield box, label and difficult flag of each object as plain numbers."""
    if sample.boxes is not None and sample.labels is not None and sample.difficult is not None:
        yield from zip(sample.boxes.tolist(), sample.labels.tolist(), sample.difficult.tolist(), strict=True)


def dataset_classes(dataset: Sequence[Sample], classes: Classes | None, what: str) -> Classes:
    """Return the classes given, else those of the data set.

    Raises:
        DataError: if there are none.
    """
    found = classes or getattr(dataset, "classes", None)
    if not isinstance(found, Classes):
        raise DataError(f"{what}: {type(dataset).__name__} has no attribute 'classes'; give the classes")
    return found


def write_picture(dataset: Sequence[Sample], index: int, sample: Sample, place: Path) -> Path:
    """Write an image as ``place`` with a suffix: a copy of its file where that has the same pixels, else a PNG."""
    import cv2

    place.parent.mkdir(parents=True, exist_ok=True)
    source = dataset.image_path(index) if isinstance(dataset, HasImageFiles) else None
    if source is not None and source.suffix.lower() in COPIED_SUFFIXES:
        pixels, problems = read_image(source)
        if not problems and pixels is not None and np.array_equal(pixels, sample.image):
            # Not with_suffix: a name may have dots.
            return Path(shutil.copyfile(source, place.with_name(place.name + source.suffix.lower())))
    path = place.with_name(f"{place.name}.png")
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(sample.image[..., ::-1]))[1].tobytes())
    return path


def write_ids(path: Path, ids: NDArray[np.uint8]) -> None:
    """Write a mask ``(H, W)`` as a PNG whose pixels are its ids, shown in VOC's colours."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.ascontiguousarray(ids))
    image.putpalette(voc_palette())
    image.save(path)


def voc_palette() -> list[int]:
    """Return the 256 colours of VOC's masks, R, G, B after another: bits of the id, dealt out from the highest on."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.int64)
    for position in range(8):
        for channel in range(3):
            colours[:, channel] |= ((ids >> (3 * position + channel)) & 1) << (7 - position)
    values: list[int] = colours.ravel().tolist()
    return values


def run_lengths(pixels: NDArray[np.bool_]) -> dict[str, Any]:
    """Return pixels ``(H, W)`` as COCO's compressed run lengths."""
    from faster_coco_eval.core import mask as masks

    region = masks.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return {"size": [int(side) for side in region["size"]], "counts": region["counts"].decode()}
