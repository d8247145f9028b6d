"""Predictions for a film, written as a film with masks and boxes, and as COCO's results."""

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.data.progress_bar import progress_bar
from mtvision.data.writers.writing import refuse_existing, writing_to
from mtvision.errors import DataError
from mtvision.inference.coco_files import Written, write_coco_files
from mtvision.inference.predictor import Predictor
from mtvision.inference.streaming import Picture, as_predictor, shown_from
from mtvision.inference.thresholds import class_names
from mtvision.model import MultiTaskModel, chunks
from mtvision.types import Prediction
from mtvision.visualize.draw import draw

logger = logging.getLogger(__name__)

CODECS = MappingProxyType({".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"})
"""How a film is coded, by the suffix of its file: what OpenCV's own builds can write."""


class VideoResult(NamedTuple):
    """What `predict_video` did.

    Attributes:
        path: of the film.
        num_frames: of the film.
        num_predicted: frames that went through the network.
    """

    path: Path
    num_frames: int
    num_predicted: int


def predict_video(
    model_or_run: Predictor | MultiTaskModel | str | Path,
    source: str | Path,
    out: str | Path,
    *,
    every: int = 1,
    coco_json: bool = True,
    score_threshold: float | None = None,
    batch_size: int = 8,
    overwrite: bool = False,
    progress: bool = True,
) -> VideoResult:
    """Predict the frames of a film; write it with masks and boxes, with as many frames a second as it has.

    Beside ``out.mp4`` stand ``out.detections.json``, COCO's results in which the id of an image is the number of the
    frame from 0 on, and ``out.images.json``, which names frames and classes. Sound is not kept. As many frames as the
    batch size says are held at a time.

    Args:
        model_or_run: a `Predictor`, a model, or the folder of a run.
        source: a film that OpenCV can read.
        out: ``.mp4``, ``.mov``, ``.mkv`` or ``.avi``.
        every: of so many frames the first is predicted; the others show what was found in it.
        coco_json: whether COCO's two files are written, where the model has ``det``.
        score_threshold: in [0, 1]; what scores below it is neither drawn nor written. None: 0.3, or what a `Predictor`
            with thresholds says.
        batch_size: of a model; a `Predictor` has its own.
        overwrite: whether files that are there are replaced.
        progress: whether to show a bar on a terminal.

    Raises:
        DataError: if the film is missing, cannot be decoded or has no frame, ``out`` has another suffix or is the film
            itself, a file is there already, or it cannot be written. A film that ends early is told in the log.
        ValueError: if ``every`` or ``batch_size`` is below 1, or ``score_threshold`` outside [0, 1].
        CheckpointError: if ``model_or_run`` is a folder without a checkpoint that can be loaded.
    """
    if every < 1:
        raise ValueError(f"every: expected at least 1, got {every}")
    film, target = Path(source).expanduser(), Path(out).expanduser()
    _check_target(film, target, overwrite)
    predictor = as_predictor(model_or_run, batch_size)
    threshold = shown_from(score_threshold, predictor)
    with (
        _opened(film) as reader,
        progress_bar("predicting", reader.num_told, progress) as advance,
        _new_film(target, reader, overwrite) as write,
    ):
        painter = _Painter(predictor, every, threshold, write, advance)
        frames = painter.paint(reader.frames())
        if coco_json and "det" in predictor.model.tasks:
            detections, images = (target.with_suffix(f".{kind}.json") for kind in ("detections", "images"))
            names = class_names(predictor.model, "det")
            write_coco_files(frames, detections, images, names, overwrite=overwrite)
        else:
            for _ in frames:
                pass
    if painter.num_frames < reader.num_told:
        logger.warning(
            "%s: it ends after %d of the %d frames that it tells of", film, painter.num_frames, reader.num_told
        )
    return VideoResult(target, painter.num_frames, painter.num_predicted)


class _Painter:
    """Predicts and draws frames, in their order.

    Args:
        predictor: of the frames.
        every: of so many frames the first is predicted.
        score_threshold: what scores below it is dropped; None: nothing more.
        write: takes each picture.
        advance: is called after each frame.
    """

    def __init__(
        self,
        predictor: Predictor,
        every: int,
        score_threshold: float | None,
        write: Callable[[NDArray[np.uint8]], None],
        advance: Callable[[], None],
    ) -> None:
        self.num_frames = 0
        self.num_predicted = 0
        self._predictor = predictor
        self._every = every
        self._score_threshold = score_threshold
        self._write = write
        self._advance = advance

    def paint(self, frames: Iterator[Picture]) -> Iterator[Written]:
        """Write every frame, and yield those that were predicted."""
        last: Prediction = {}
        for batch in chunks(frames, self._predictor.batch_size):
            found = self._predicted([frame for frame in batch if frame.id % self._every == 0])
            for frame in batch:
                last = found.get(frame.id, last)
                self._write(draw(frame.pixels, last, self._predictor.model.classes, score_threshold=0.0))
                self.num_frames += 1
                self._advance()
                if frame.id in found:
                    yield Written(frame.id, frame.name, frame.size, last)

    def _predicted(self, frames: list[Picture]) -> dict[int, Prediction]:
        pixels = [frame.pixels for frame in frames]
        predictions = self._predictor.predict(pixels, score_threshold=self._score_threshold)
        self.num_predicted += len(frames)
        return {frame.id: prediction for frame, prediction in zip(frames, predictions, strict=True)}


class _Film:
    """A film that is open.

    Args:
        capture: of OpenCV.
        path: of the film.

    Attributes:
        rate: frames a second.
        size: ``(H, W)`` in pixels.
        num_told: frames that it should have, as the file tells; 0 where it does not.
    """

    def __init__(self, capture: Any, path: Path) -> None:
        import cv2

        self._capture = capture
        self._path = path
        self.rate = float(capture.get(cv2.CAP_PROP_FPS))
        self.size = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.num_told = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def frames(self) -> Iterator[Picture]:
        """Yield the frames, numbered from 0 on.

        Raises:
            DataError: at the end, if there is none.
        """
        number = 0
        while (found := self._capture.read())[0]:
            yield Picture(number, f"{self._path.name}#{number}", np.ascontiguousarray(found[1][..., ::-1]))
            number += 1
        if not number:
            raise DataError(f"{self._path}: the film has no frame that can be decoded")


@contextmanager
def _opened(path: Path) -> Iterator[_Film]:
    import cv2

    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    capture = cv2.VideoCapture(str(path))
    try:
        film = _Film(capture, path)
        if not capture.isOpened() or min(film.size) < 1:
            raise DataError(f"{path}: not a film that can be decoded (corrupt, cut off, or of another format)")
        if not (math.isfinite(film.rate) and film.rate > 0):
            raise DataError(f"{path}: the film does not tell how many frames a second it has")
        yield film
    finally:
        capture.release()


def _check_target(film: Path, target: Path, overwrite: bool) -> None:
    if target.suffix.lower() not in CODECS:
        raise DataError(f"{target}: a film is written as {', '.join(CODECS)}, not as '{target.suffix}'")
    if target.resolve() == film.resolve():
        raise DataError(f"{target}: it is the film that is read; choose another place")
    refuse_existing(target, overwrite)


@contextmanager
def _new_film(path: Path, like: _Film, overwrite: bool) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """Give a function that writes a frame; the film appears in its place when it is whole."""
    import cv2

    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix.lower()}")
        codec = CODECS[path.suffix.lower()]
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*codec), like.rate, like.size[::-1])
        try:
            if not writer.isOpened():
                raise DataError(f"{path}: the film cannot be written (codec {codec}, {like.size[1]} x {like.size[0]})")

            def write(frame: NDArray[np.uint8]) -> None:
                writer.write(np.ascontiguousarray(frame[..., ::-1]))

            yield write
            writer.release()
            refuse_existing(path, overwrite)
            temporary.replace(path)
        finally:
            writer.release()
            temporary.unlink(missing_ok=True)
