"""Hold what a data set returns against the contract of `Sample`: all of it at once, or each item as it is read."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from mtvision.data.base import Subset, examines_itself
from mtvision.data.checking.check_items import ItemCheck, attribute, described, read_image_alone
from mtvision.data.checking.check_report import NOT_COMPARED, CheckReport, Finding, Note
from mtvision.data.checking.contract import annotation_name_problems, classes_problems, sample_problems
from mtvision.data.checking.duplicates import Signatures, duplicate_findings
from mtvision.data.progress_bar import progress_bar
from mtvision.errors import DataError
from mtvision.types import Classes, Sample

__all__ = ["annotation_name_problems", "check", "check_splits", "checked_reader", "classes_problems", "sample_problems"]


def check(
    dataset: Sequence[Sample],
    *,
    against: Mapping[str, Sequence[Sample] | CheckReport] | None = None,
    duplicates: bool = True,
    progress: bool | None = None,
) -> CheckReport:
    """Read every item once and return what is wrong, and what looks wrong; an empty report means that all is well.

    Works for any data set: one that lists its problems itself (as ``voc`` does: several of one file at once) is asked,
    any other is read, and what it returns is held against the contract of `Sample`. A bad item never raises. Of images
    that are files the headers are read too.

    Args:
        dataset: to check.
        against: other data sets by name, such as other splits, whose images must not be in this one; the report of a
            check with ``duplicates`` stands for its data set, which is then not read again.
        duplicates: whether to look for images that occur twice, or nearly; compressed, resized and slightly brighter
            copies are found, mirrored and cropped ones are not.
        progress: whether to show a bar on the standard error output; None: for many images; only ever on a terminal.

    Example:
        >>> from mtvision.data.readers.shapes import Shapes
        >>> report = check(Shapes("train", num_images=12, image_size=32))
        >>> report == []
        True
    """
    length, trouble = _length(dataset)
    if trouble:
        return CheckReport([Finding(trouble, kind="unusable-dataset")])
    lengths = {
        name: 0 if isinstance(other, CheckReport) else _length(other)[0] for name, other in (against or {}).items()
    }
    items = ItemCheck(dataset, duplicates=duplicates or bool(against))
    with progress_bar("check", length + sum(lengths.values()), progress) as advance:
        for index in range(length):
            items.look_at(index)
            advance()
        findings, notes = items.findings_of_the_whole(), items.notes()
        others: dict[str, Signatures] = {}
        for name, other in (against or {}).items():
            others[name], found, skipped = _signatures_of(name, other, advance)
            findings += found
            notes += skipped
    findings += duplicate_findings(items.signatures, others, within=duplicates)
    findings.sort(key=lambda finding: length if finding.index is None else finding.index)
    return CheckReport(findings, notes, num_items=length, image_ids=items.image_ids(), signatures=items.signatures)


def check_splits(
    splits: Mapping[str, Sequence[Sample]], *, duplicates: bool = True, progress: bool | None = None
) -> dict[str, CheckReport]:
    """Check several splits of a data set, and that no image is in two of them; each is read once.

    An image that is in two splits is told of in the one that is named first: name ``train`` before ``val``, and leaving
    out what is told keeps ``val`` whole.

    Args:
        splits: data sets by the name of their split.
        duplicates: see `check`.
        progress: see `check`.

    Example:
        >>> from mtvision.data.readers.shapes import Shapes
        >>> splits = {name: Shapes(name, num_images=48, image_size=32) for name in ("train", "val")}
        >>> {name: len(report) for name, report in check_splits(splits).items()}
        {'train': 0, 'val': 0}
    """
    reports: dict[str, CheckReport] = {}
    for name in reversed(list(splits)):
        later = dict(reports) if duplicates else None
        reports[name] = check(splits[name], against=later, duplicates=duplicates, progress=progress)
    return {name: reports[name] for name in splits}


def _length(dataset: Sequence[Sample]) -> tuple[int, str]:
    """Return the number of items, and why it is of no use."""
    if isinstance(dataset, str | Path):
        return 0, _no_data_set(dataset)
    try:
        length = len(dataset)
    except Exception as error:  # noqa: BLE001 - a user's own code can fail with anything; it is listed, not raised
        return 0, f"the data set's length cannot be told ({described(error)})"
    return length, "" if length else "the data set is empty"


def _signatures_of(
    name: str, other: Sequence[Sample] | CheckReport, advance: Callable[[], None]
) -> tuple[Signatures, list[Finding], list[Note]]:
    """Return the signatures of another data set's images, and what keeps some or all of them from being compared."""
    if isinstance(other, CheckReport):
        known = other.signatures or Signatures()
        lost = other.num_items - len(known.indices)
        return known, [], _skipped(name, lost)
    length, trouble = _length(other)
    if trouble:
        return Signatures(), [Finding(f"'{name}' cannot be compared: {trouble}", kind="unusable-dataset")], []
    signatures = Signatures()
    ids = attribute(other, "image_ids")
    for index in range(length):
        image, image_id = read_image_alone(other, ids, index)
        if image is not None:
            signatures.add(index, image_id, image)
        advance()
    return signatures, [], _skipped(name, length - len(signatures.indices))


def _skipped(name: str, count: int) -> list[Note]:
    counted = f"1 image of '{name}'" if count == 1 else f"{count:,} images of '{name}'"
    text = f"{counted} could not be read and {'was' if count == 1 else 'were'} not compared"
    return [Note(NOT_COMPARED, text, count, ())] if count else []


def _no_data_set(given: str | Path) -> str:
    return f"expected a data set, got the text '{given}'; build_dataset(config, split) opens one"


def checked_reader(dataset: Sequence[Sample]) -> Callable[[int], Sample]:
    """Return a function that reads a data set's item by its index and raises where it breaks the contract of `Sample`.

    A data set that checks itself, and a part of one, is read as it is: nothing is checked twice.

    Raises:
        DataError: for a text in place of a data set; the function raises it with a sentence for each problem, that
            names the item.
    """
    if isinstance(dataset, str | Path):  # a text is a sequence too, of its letters
        raise DataError(_no_data_set(dataset))
    whole: Sequence[Sample] = dataset
    while type(whole) is Subset:
        whole = whole.dataset
    if examines_itself(whole):
        return dataset.__getitem__
    classes = getattr(dataset, "classes", None)
    return partial(_read_checked, dataset, classes if isinstance(classes, Classes) else None)


def _read_checked(dataset: Sequence[Sample], classes: Classes | None, index: int) -> Sample:
    try:
        sample = dataset[index]
    except OSError as error:  # as Pillow's of a file that is no image
        raise DataError(f"item {index}: it cannot be read ({' '.join(str(error).split())})") from error
    problems = sample_problems(sample, classes)
    if problems:
        raise DataError("\n".join(f"item {index}: {problem}" for problem in problems))
    return sample
