"""One pass over the items of a data set: each is read once, and all that can be told of it is collected."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtvision.data.base import Examinable, HasImageFiles, examines_itself
from mtvision.data.checking.check_report import Finding, Note
from mtvision.data.checking.consistency import sample_doubts
from mtvision.data.checking.contract import classes_problems, sample_problems
from mtvision.data.checking.duplicates import Signatures
from mtvision.data.checking.image_facts import (
    FactsTally,
    ImageFacts,
    image_facts,
    orientation_problem,
    suffix_problem,
    turned_hint,
)
from mtvision.data.checking.problem_kinds import problem_kind
from mtvision.data.readers.files import read_image
from mtvision.errors import DataError
from mtvision.types import VOID, Classes, Sample

_NAMES_SHOWN = 8
_OF_THE_SIZE = ("mask-size", "image-size", "box-outside")  # what is wrong where an annotation is of the image as stored


class ItemCheck:
    """What is found while the items of a data set are looked at, one after the other."""

    def __init__(self, dataset: Sequence[Sample], *, duplicates: bool) -> None:
        self.signatures = Signatures()
        self._dataset = dataset
        self._duplicates = duplicates
        self._ids = attribute(dataset, "image_ids")
        classes = attribute(dataset, "classes")
        problems = [] if classes is None else classes_problems(classes)
        self._findings = [Finding(text, kind="invalid-classes") for text in problems]
        self._classes: Classes | None = None if problems else classes
        self._facts = FactsTally()
        self._seen_ids: Counter[str] = Counter()
        self._occurrences = _Occurrences()

    def look_at(self, index: int) -> None:
        """Read one item and remember what is wrong with it, and what it has."""
        sample, problems = _read(self._dataset, index)
        problems = problems or sample_problems(sample, self._classes)
        is_sample = isinstance(sample, Sample) and isinstance(sample.image_id, str)
        name = sample.image_id if is_sample else _known_id(self._ids, index)
        if name is not None:
            self._seen_ids[name] += 1
        sound = sample if is_sample and not problems else None
        path = _image_path(self._dataset, index)
        facts = image_facts(path) if path is not None else None
        for text in problems:
            kind = problem_kind(text)
            hint = turned_hint(facts) if facts is not None and kind in _OF_THE_SIZE else ""
            self._findings.append(Finding(text + hint, kind=kind, index=index, image_id=name))
        if path is not None and facts is not None:
            self._look_at_file(path, facts, index, name, sound)
        if sound is not None:
            for doubt in sample_doubts(sound, self._classes):
                self._warn(doubt.kind, f"image '{name}': {doubt.text}", index, name)
            self._occurrences.add(sound)
            if self._duplicates:
                self.signatures.add(index, sound.image_id, sound.image)

    def _look_at_file(self, path: Path, facts: ImageFacts, index: int, name: str | None, sample: Sample | None) -> None:
        wrong = suffix_problem(path, facts)
        if wrong:
            self._warn("wrong-suffix", wrong, index, name)
        ignored = orientation_problem(path, facts, sample.image.shape[:2]) if sample is not None else ""
        if ignored:
            self._warn("exif-ignored", ignored, index, name)
        else:
            self._facts.add(facts, name or path.name)

    def _warn(self, kind: str, text: str, index: int, name: str | None) -> None:
        self._findings.append(Finding(text, kind=kind, severity="warning", index=index, image_id=name))

    def findings_of_the_whole(self) -> list[Finding]:
        """Return all that was found, with what only the whole set tells at the end."""
        twice = [
            Finding(f"image id '{name}' occurs {count} times", kind="repeated-id")
            for name, count in self._seen_ids.items()
            if count > 1
        ]
        return self._findings + twice + self._occurrences.absent(self._classes)

    def image_ids(self) -> list[str]:
        """Return the ids of the items that have one."""
        return list(self._seen_ids)

    def notes(self) -> list[Note]:
        """Return the facts that need no action."""
        return self._facts.notes()


class _Occurrences:
    """Which mask values and labels occur, in the images that are annotated for them."""

    def __init__(self) -> None:
        self._values = np.zeros(VOID + 1, dtype=np.bool_)
        self._labels: set[int] = set()
        self._num_masks = self._num_boxed = 0

    def add(self, sample: Sample) -> None:
        if sample.mask is not None:
            self._num_masks += 1
            self._values |= np.bincount(sample.mask.ravel(), minlength=VOID + 1) > 0
        if sample.labels is not None:
            self._num_boxed += 1
            self._labels.update(sample.labels.tolist())

    def absent(self, classes: Classes | None) -> list[Finding]:
        """Return a warning for each task of whose classes some never occur; none where nothing is annotated."""
        if classes is None:
            return []
        masked = [name for value, name in enumerate(classes.segmentation) if value and not self._values[value]]
        boxed = [name for label, name in enumerate(classes.detection) if label not in self._labels]
        return [
            Finding(_absent_sentence(names, what), kind="absent-class", severity="warning")
            for names, what, count in ((masked, "mask", self._num_masks), (boxed, "boxes", self._num_boxed))
            if names and count
        ]


def _absent_sentence(names: Sequence[str], what: str) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_NAMES_SHOWN])
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"no {'mask has a pixel' if what == 'mask' else 'box is'} of {shown}{more}: nothing can be learned of it"


def _read(dataset: Sequence[Sample], index: int) -> tuple[Any, list[str]]:
    try:
        if isinstance(dataset, Examinable) and examines_itself(dataset):
            return dataset.examine(index)
        return dataset[index], []
    except DataError as error:
        return None, str(error).split("\n")
    except Exception as error:  # noqa: BLE001 - a user's own code can fail with anything; it is listed, not raised
        return None, [f"item {index}: cannot be read ({described(error)})"]


def read_image_alone(dataset: Sequence[Sample], ids: Any, index: int) -> tuple[NDArray[np.uint8] | None, str]:
    """Return an item's image, without its annotations where it is a file, and its id; None if it cannot be read."""
    path = _image_path(dataset, index)
    name = _known_id(ids, index)
    if path is not None and name is not None:
        return read_image(path)[0], name
    sample, problems = _read(dataset, index)
    if problems or sample_problems(sample):
        return None, ""
    return sample.image, sample.image_id


def _image_path(dataset: Sequence[Sample], index: int) -> Path | None:
    if not isinstance(dataset, HasImageFiles):
        return None
    try:
        path = dataset.image_path(index)
    except Exception:  # noqa: BLE001 - a user's own code can fail with anything; then there is no file to look at
        return None
    return path if isinstance(path, Path) else None


def _known_id(ids: Any, index: int) -> str | None:
    """Return the id that a data set's ``image_ids`` has for an item, None if it has none."""
    try:
        name = ids[index]
    except Exception:  # noqa: BLE001 - whatever a user's own code made of it
        return None
    return str(name) if isinstance(name, str) else None


def attribute(dataset: object, name: str) -> Any:
    """Return an attribute, None if there is none or it fails."""
    try:
        return getattr(dataset, name, None)
    except Exception:  # noqa: BLE001 - a user's own code can fail with anything
        return None


def described(error: Exception) -> str:
    """Return an error's type and message in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
