"""Predictions for a folder of images, written as pictures, masks and COCO's results."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

from mtvision.data.images import as_sample
from mtvision.data.progress_bar import progress_bar
from mtvision.data.readers.file_set import IMAGE_SUFFIXES, list_images
from mtvision.data.writers.predictions import mask_ids
from mtvision.data.writers.writing import refuse_existing, write_ids, writing_to
from mtvision.errors import DataError
from mtvision.inference.coco_files import Written, write_coco_files
from mtvision.inference.predictor import Predictor
from mtvision.inference.streaming import Picture, as_predictor, predicted, shown_from
from mtvision.inference.thresholds import class_names
from mtvision.model import MultiTaskModel
from mtvision.types import VOID, Classes, Prediction
from mtvision.visualize.draw import draw

logger = logging.getLogger(__name__)

OVERLAYS, MASKS, DETECTIONS, IMAGES = "overlays", "masks", "detections.json", "images.json"
"""What stands in the folder of results."""

_QUALITY = 90  # of JPEG


class FolderResult(NamedTuple):
    """What `predict_folder` did.

    Attributes:
        folder: where everything is.
        num_images: that were predicted.
        skipped: a sentence for each image that could not be read.
    """

    folder: Path
    num_images: int
    skipped: tuple[str, ...]


def predict_folder(
    model_or_run: Predictor | MultiTaskModel | str | Path,
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    overlays: bool = True,
    masks: bool = True,
    coco_json: bool = True,
    recursive: bool = False,
    score_threshold: float | None = None,
    batch_size: int = 8,
    on_error: Literal["raise", "skip"] = "raise",
    overwrite: bool = False,
    progress: bool = True,
) -> FolderResult:
    """Predict all images of a folder and write what was found; memory does not grow with their number.

    ``out`` gets, as far as the model has the task: ``overlays/<name>.jpg``, the image with mask and boxes;
    ``masks/<name>.png`` of class ids at the image's own size, shown in VOC's colours; ``detections.json``, COCO's
    results, whose category ids are the labels + 1, and ``images.json``, which says which image and class has which id.
    Images of one name (``a.jpg``, ``a.png``) become ``a`` and ``a-2``; with ``recursive`` the folders are kept.

    Args:
        model_or_run: a `Predictor`, a model, or the folder of a run.
        source: a folder, or the paths of images.
        out: a folder.
        overlays: whether pictures are written.
        masks: whether masks are, where the model has ``seg``.
        coco_json: whether COCO's two files are, where the model has ``det``.
        recursive: whether images in folders within ``source`` count, too.
        score_threshold: in [0, 1]; what scores below it is neither drawn nor written. None: 0.3, or what a `Predictor`
            with thresholds says. For COCO's own scoring give 0.
        batch_size: of a model; a `Predictor` has its own.
        on_error: ``skip``: images that cannot be read are named in the log and in the result.
        overwrite: whether files that are there are replaced; others in ``out`` stay.
        progress: whether to show a bar on a terminal.

    Raises:
        DataError: if there is no image, one cannot be read (unless skipped), none can, ``out`` lies within a ``source``
            that is read recursively, or a file is there already.
        ValueError: if ``score_threshold`` is outside [0, 1], ``batch_size`` below 1 or ``on_error`` another word.
        CheckpointError: if ``model_or_run`` is a folder without a checkpoint that can be loaded.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")
    target = Path(out).expanduser()
    files = _files(source, recursive, target)
    predictor = as_predictor(model_or_run, batch_size)
    tasks = predictor.model.tasks
    saver = _Saver(target, predictor.model.classes, overlays, masks and "seg" in tasks, overwrite)
    reader = _Reader(on_error == "skip")
    with progress_bar("predicting", len(files), progress) as advance:
        pictures = reader.read(files, advance)
        written = _written(predicted(predictor, pictures, shown_from(score_threshold, predictor)), saver)
        if coco_json and "det" in tasks:
            names = class_names(predictor.model, "det")
            write_coco_files(written, target / DETECTIONS, target / IMAGES, names, overwrite=overwrite)
        else:
            for _ in written:
                pass
    return FolderResult(target, reader.num_read, tuple(reader.skipped))


class _File(NamedTuple):
    """An image file, the name that it is listed by, and the name that its results should have."""

    path: Path
    name: str
    stem: str


def _files(source: str | Path | Sequence[str | Path], recursive: bool, out: Path) -> list[_File]:
    if isinstance(source, str | Path):
        place, files = str(source), _files_in(Path(source).expanduser(), recursive, out)
    else:
        place, files = (
            "the list of images",
            [_File(Path(each), Path(each).as_posix(), Path(each).stem) for each in source],
        )
    if not files:
        within = "" if recursive else "; with recursive=True those in its folders count, too"
        raise DataError(f"{place}: there is no image (of {', '.join(IMAGE_SUFFIXES)}){within}")
    return files


def _files_in(folder: Path, recursive: bool, out: Path) -> list[_File]:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; a single image is given as a list: [path]")
    if recursive and out.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{out}: it lies within {folder}, whose images are read recursively; choose another place")
    names = [path.relative_to(folder) for path in list_images(folder) if recursive or path.parent == folder]
    return [_File(folder / name, name.as_posix(), name.with_suffix("").as_posix()) for name in names]


class _Reader:
    """Reads images one after the other, numbers them from 1 on and gives each a place of its own.

    Args:
        skip: leave out images that cannot be read.
    """

    def __init__(self, skip: bool) -> None:
        self.skipped: list[str] = []
        self.num_read = 0
        self._skip = skip
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}  # the number to try for a name, which many may have

    def read(self, files: Iterable[_File], advance: Callable[[], None]) -> Iterator[Picture]:
        """Yield what can be read.

        Raises:
            DataError: if an image cannot be read, or with ``skip`` none can.
        """
        for file in files:
            try:
                pixels = as_sample(file.path).image
            except DataError as error:
                if not self._skip:
                    raise
                logger.warning("skipped: %s", error)
                self.skipped.append(str(error))
            else:
                self.num_read += 1
                yield Picture(self.num_read, file.name, pixels, self._free(file.stem))
            advance()
        if not self.num_read:
            raise DataError(f"not one of the {len(self.skipped)} images can be read; the last: {self.skipped[-1]}")

    def _free(self, stem: str) -> str:
        """Return a name that no image before has, also where case does not count."""
        numbers = count(self._next.get(stem.casefold(), 1))
        number, free = next(
            (number, name)
            for number in numbers
            if (name := stem if number == 1 else f"{stem}-{number}").casefold() not in self._taken
        )
        self._next[stem.casefold()] = number + 1
        self._taken.add(free.casefold())
        return free


@dataclass(frozen=True)
class _Saver:
    """Writes the pictures of an image, where they are wanted."""

    target: Path
    classes: Classes | None
    overlays: bool
    masks: bool
    overwrite: bool

    def save(self, picture: Picture, prediction: Prediction) -> None:
        if self.overlays:
            from PIL import Image

            drawn = Image.fromarray(draw(picture.pixels, prediction, self.classes, score_threshold=0.0))
            with self._new(OVERLAYS, f"{picture.place}.jpg") as path:
                drawn.save(path, quality=_QUALITY)
        if self.masks:
            with self._new(MASKS, f"{picture.place}.png") as path:
                write_ids(path, mask_ids(prediction["seg"], picture.name, VOID))

    @contextmanager
    def _new(self, kind: str, name: str) -> Iterator[Path]:
        path = self.target / kind / name
        refuse_existing(path, self.overwrite)
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path


def _written(said: Iterable[tuple[Picture, Prediction]], saver: _Saver) -> Iterator[Written]:
    """Write the pictures of each image as it passes."""
    for picture, prediction in said:
        saver.save(picture, prediction)
        yield Written(picture.id, picture.name, picture.size, prediction)
