"""Files of results in the layout of the Pascal VOC devkit, as its own tools score them."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from mtvision.data.readers.file_set import is_plain_name
from mtvision.data.writers.predictions import Detections, detections, mask_ids, paired
from mtvision.data.writers.writing import file_name, new_folder, refuse_existing, write_ids
from mtvision.errors import DataError
from mtvision.types import Classes, Prediction

_MOST_LINES = 100_000
_WHAT = "write_voc_results"


def write_voc_results(
    predictions: Iterable[Prediction],
    image_ids: Iterable[str],
    folder: str | Path,
    classes: Classes,
    *,
    split: str = "test",
    year: str = "2012",
    outside_data: bool = True,
    overwrite: bool = False,
) -> None:
    """Write predictions in the layout of the Pascal VOC devkit, which its own tools and its server score.

    ``results/VOC2012/Main/comp4_det_test_cat.txt`` has a line ``id score xmin ymin xmax ymax`` for each cat, in VOC's
    1-based inclusive pixels; ``results/VOC2012/Segmentation/comp6_test_cls/id.png`` is a mask. What the predictions
    have is written, ``det``, ``seg`` or both. Both iterables may be generators.

    Args:
        predictions: what ``model.predict`` returns.
        image_ids: of the predictions, in their order; names of files without suffix.
        folder: in which ``results`` is made.
        classes: of the model.
        split: stands in the names.
        year: stands in the path.
        outside_data: whether anything else than VOC's own data was trained on, as any pretrained backbone was: VOC
            calls this ``comp4`` and ``comp6``, else ``comp3`` and ``comp5``.
        overwrite: whether files that are there are replaced, and masks of other images removed.

    Raises:
        DataError: if there are more predictions than ids or fewer, an id or a class name cannot be the name of a file,
            a label or mask id has no class, or files are there already or cannot be written.

    Example:
        >>> import tempfile, torch
        >>> one = {"boxes": torch.tensor([[0.0, 2, 4, 6]]), "scores": torch.tensor([0.5]), "labels": torch.tensor([0])}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_voc_results([{"det": one}], ["2008_1"], folder, Classes(("background", "cat"), ("cat",)))
        ...     (Path(folder) / "results/VOC2012/Main/comp4_det_test_cat.txt").read_text().strip()
        '2008_1 0.5 1 3 4 6'
    """
    wrong = next((text for text in (*classes.detection, split, year) if not is_plain_name(text)), None)
    if wrong is not None:
        raise DataError(f"{_WHAT}: {wrong[:80]!r} cannot be part of a file's name")
    root, place = Path(folder).expanduser(), Path("results") / f"VOC{year}"
    boxes = place / "Main" / f"comp{4 if outside_data else 3}_det_{split}_"
    masks = place / "Segmentation" / f"comp{6 if outside_data else 5}_{split}_cls"
    with new_folder(root, overwrite) as temporary:
        tables = _Tables(root / boxes, temporary / boxes, classes.detection, overwrite)
        for prediction, image_id in paired(predictions, image_ids, _WHAT):
            name = file_name(image_id, _WHAT)
            if "seg" in prediction:
                refuse_existing(root / masks, overwrite)
                ids = mask_ids(prediction["seg"], f"{_WHAT}: image {name}", len(classes.segmentation))
                write_ids(temporary / masks / f"{name}.png", ids)
            if "det" in prediction:
                tables.add(detections(prediction["det"], f"{_WHAT}: image {name}"), name)
        tables.flush()
        if (temporary / masks).exists():
            shutil.rmtree(root / masks, ignore_errors=True)


class _Tables:
    """The files of detections, one a class; lines are kept until there are many, since so many files may not be open.

    Args:
        target: where the files will be, up to the class name.
        place: where they are written, likewise.
        names: of the classes.
        overwrite: whether those that are there may be replaced.
    """

    def __init__(self, target: Path, place: Path, names: Sequence[str], overwrite: bool) -> None:
        self._target = target
        self._place = place
        self._overwrite = overwrite
        self._names = names
        self._lines: dict[str, list[str]] = {}
        self._num_lines = 0

    def add(self, found: Detections, image_id: str) -> None:
        """Add the detections of an image."""
        if not self._lines:
            self._lines = self._begin()
        for (left, top, right, bottom), score, label in found:
            if not 0 <= label < len(self._names):
                raise DataError(f"{_WHAT}: image {image_id}: no class has the label {label}")
            # The first pixel is 1, and the last one is part of the box.
            numbers = " ".join(f"{value:.9g}" for value in (score, left + 1, top + 1, right, bottom))
            self._lines[self._names[label]].append(f"{image_id} {numbers}\n")
        self._num_lines += len(found)
        if self._num_lines > _MOST_LINES:
            self.flush()

    def flush(self) -> None:
        """Write the lines of each class behind what its file has; a class without any has an empty file."""
        for name, lines in self._lines.items():
            with _file_of(self._place, name).open("a", encoding="utf-8") as file:
                file.writelines(lines)
            lines.clear()
        self._num_lines = 0

    def _begin(self) -> dict[str, list[str]]:
        self._place.parent.mkdir(parents=True, exist_ok=True)
        for name in self._names:
            refuse_existing(_file_of(self._target, name), self._overwrite)
        return {name: [] for name in self._names}


def _file_of(place: Path, name: str) -> Path:
    return place.with_name(f"{place.name}{name}.txt")
