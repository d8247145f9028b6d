"""Files of results in COCO's formats, as the COCO tools score them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from mtvision.data.writers.predictions import detections, mask_ids, paired
from mtvision.data.writers.writing import new_file, run_lengths
from mtvision.errors import DataError
from mtvision.types import VOID, Prediction

_LONGEST_ID = 18  # digits


def write_coco_results(
    predictions: Iterable[Prediction],
    image_ids: Iterable[str | int],
    path: str | Path,
    *,
    category_ids: Sequence[int] | None = None,
    overwrite: bool = False,
) -> None:
    """Write detections as a COCO results file, which ``COCO.loadRes`` of the COCO tools reads.

    Each is ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``; numbers are written exactly. Both
    iterables may be generators: one image at a time is held.

    Args:
        predictions: what ``model.predict`` returns, or any part of it with ``det``.
        image_ids: of the predictions, in their order; COCO's are whole numbers, as numbers or text.
        path: of the file.
        category_ids: COCO's ids of the labels 0, 1, ...: ``category_ids`` of the `Coco` that was scored on. None: 1, 2,
            ..., as `write_coco` numbers them.
        overwrite: whether a file that is there is replaced.

    Raises:
        DataError: if there are more predictions than ids or fewer, an id is no whole number, a prediction has no
            ``det`` or a number that is not finite, a label has no category id, or the file is there already or cannot
            be written.

    Example:
        >>> import tempfile, torch
        >>> one = {"boxes": torch.tensor([[1.0, 2, 4, 6]]), "scores": torch.tensor([0.5]), "labels": torch.tensor([0])}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_coco_results([{"det": one}], ["139"], Path(folder) / "results.json", category_ids=[17])
        ...     json.loads((Path(folder) / "results.json").read_text())
        [{'image_id': 139, 'category_id': 17, 'bbox': [1.0, 2.0, 3.0, 4.0], 'score': 0.5}]
    """
    target = Path(path).expanduser()
    with new_file(target, overwrite) as file:
        _write_list(file, _boxes(predictions, image_ids, target, category_ids))


def write_coco_segmentation_results(
    predictions: Iterable[Prediction],
    image_ids: Iterable[str | int],
    path: str | Path,
    *,
    category_ids: Sequence[int] | None = None,
    overwrite: bool = False,
) -> None:
    """Write masks in the format of COCO's stuff results: run lengths of each class that an image has.

    Each is ``{"image_id", "category_id", "segmentation": {"size", "counts"}}``. The background, id 0, is left out, and
    so is void.

    Args:
        predictions: what ``model.predict`` returns, or any part of it with ``seg``.
        image_ids: of the predictions, in their order; COCO's are whole numbers, as numbers or text.
        path: of the file.
        category_ids: COCO's ids of the mask ids 1, 2, ...: ``mask_category_ids`` of the `Coco` or `CocoPanoptic` that
            was scored on. None: the mask ids themselves.
        overwrite: whether a file that is there is replaced.

    Raises:
        DataError: if there are more predictions than ids or fewer, an id is no whole number, a prediction has no
            ``seg``, a mask id has no category id, or the file is there already or cannot be written.
    """
    target = Path(path).expanduser()
    with new_file(target, overwrite) as file:
        _write_list(file, _masks(predictions, image_ids, target, category_ids))


def _boxes(
    predictions: Iterable[Prediction], image_ids: Iterable[str | int], path: Path, category_ids: Sequence[int] | None
) -> Iterator[dict[str, Any]]:
    for prediction, image_id in paired(predictions, image_ids, str(path)):
        number = coco_id(image_id, str(path))
        found = detections(_part(prediction, "det", number, path), f"{path}: image {number}")
        for (left, top, right, bottom), score, label in found:
            category = _category(label, category_ids, number, path)
            box = [left, top, right - left, bottom - top]
            yield {"image_id": number, "category_id": category, "bbox": box, "score": score}


def _masks(
    predictions: Iterable[Prediction], image_ids: Iterable[str | int], path: Path, category_ids: Sequence[int] | None
) -> Iterator[dict[str, Any]]:
    for prediction, image_id in paired(predictions, image_ids, str(path)):
        number = coco_id(image_id, str(path))
        mask = mask_ids(_part(prediction, "seg", number, path), f"{path}: image {number}", VOID)
        for value in np.flatnonzero(np.bincount(mask.ravel(), minlength=VOID + 1)).tolist():
            if value not in (0, VOID):
                category = _category(value - 1, category_ids, number, path)
                yield {"image_id": number, "category_id": category, "segmentation": run_lengths(mask == value)}


def coco_id(image_id: str | int, what: str) -> int:
    """Return an image's id as the number that COCO has for it.

    Raises:
        DataError: if it is none.
    """
    text = str(image_id)
    if not text.isascii() or not text.isdecimal() or len(text) > _LONGEST_ID:
        hint = "COCO's are; write_coco returns the numbers that it gave"
        raise DataError(f"{what}: the image id {text[:80]!r} is no whole number, as {hint}")
    return int(text)


def _part(prediction: Prediction, task: str, image_id: int, path: Path) -> Any:
    if task not in prediction:
        has = ", ".join(map(str, prediction)) or "nothing"
        raise DataError(f"{path}: the prediction of image {image_id} has no '{task}', but {has}")
    return prediction[task]


def _category(label: int, category_ids: Sequence[int] | None, image_id: int, path: Path) -> int:
    if category_ids is None:
        return label + 1
    if not 0 <= label < len(category_ids):
        known = f"category_ids has {len(category_ids)} entries"
        raise DataError(f"{path}: image {image_id}: no category id for class {label} (from 0); {known}")
    return int(category_ids[label])


def _write_list(file: IO[str], items: Iterable[dict[str, Any]]) -> None:
    """Write a JSON list, an item a line."""
    separator = "[\n"
    for item in items:
        file.write(separator + json.dumps(item, allow_nan=False))
        separator = ",\n"
    file.write("[]\n" if separator == "[\n" else "\n]\n")
