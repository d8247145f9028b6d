"""Why each false detection is false and each lost object lost, and what that costs: TIDE; NumPy only.

Bolya et al. 2020, TIDE: A General Toolbox for Identifying Object Detection Errors, arXiv 2008.08115.

The numbers are those of the authors' package ``tidecv`` 1.0.1, but where it deviates from paper or COCO's rules:

* An overlap of exactly a threshold reaches it, as it does in matching. There, a detection that overlaps a taken object
  by exactly the foreground threshold is a localisation error.
* A detection that is ignored, since it lies in a difficult object, is no error and explains nothing. There it has a
  type, and may become true when that is mended.
* Each type is mended for itself. There, a detection that is wrongly placed is deleted where a better one of the wrong
  class refers to the same object, although only one of the two types is mended.
* A class without objects is left out of the mean. There it counts as 0 while something is detected, so to mend
  background errors seems to win more.
* A class of which no object is left, once missed ones are taken out, is left out of that mean. There it is 0 if
  something is detected.
* Of equal scores the earlier detection stays first, mended or not. There, false ones move before true ones when
  anything is mended, which can cost more than is won; the loss is shown as 0.
* All detections count. There, the 100 best of an image do.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtvision.analysis.detections import Detections, Objects, check_boxes, match_objects, overlaps
from mtvision.ops.average_precision import hundred_one_point, precision_at_true
from mtvision.ops.detection_matching import Pairs, best_first

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Verdict(IntEnum):
    """What is said of a detection; those from ``CLASSIFICATION`` on are false."""

    TRUE = 0
    IGNORED = 1
    CLASSIFICATION = 2
    LOCALISATION = 3
    BOTH = 4
    DUPLICATE = 5
    BACKGROUND = 6


ERROR_NAMES = (*(verdict.name.lower() for verdict in Verdict if verdict > Verdict.IGNORED), "missed")
"""The six types of error."""


class BoxErrors(NamedTuple):
    """What is said of each detection and object. A counted object neither found nor missed is explained by an error.

    Attributes:
        verdicts: ``(B,)`` a `Verdict` each.
        objects: ``(B,)`` index of the object that the detection finds or should have found, -1 where it is background.
        found: ``(M,)``.
        missed: ``(M,)``; never a difficult object.
    """

    verdicts: NDArray[np.int8]
    objects: Integers
    found: Flags
    missed: Flags


class ErrorCosts(NamedTuple):
    """What would be won if one type of error was mended and all else stayed, fractions in [0, 1].

    Attributes:
        ap: mean average precision over the classes with objects, NaN without any.
        ap_per_class: ``(C,)``, NaN for a class without objects.
        delta: by name of the type (`ERROR_NAMES`, ``false_positive``, ``false_negative``), how much higher ``ap`` would
            be.
        delta_per_class: the same for each class, ``(C,)``; NaN for a class without objects, or without any left that
            is to be found.
    """

    ap: float
    ap_per_class: Floats
    delta: Mapping[str, float]
    delta_per_class: Mapping[str, Floats]


def find_errors(
    detections: Detections, objects: Objects, num_classes: int, *, foreground: float = 0.5, background: float = 0.1
) -> BoxErrors:
    """Give each false detection exactly one type of error, and find the objects that none of them explains.

    Detections are matched by `match_objects` at an IoU of ``foreground``. A false one is, by the first that holds,

    * ``LOCALISATION``: its largest IoU with an object of its class is in [``background``, ``foreground``);
    * ``CLASSIFICATION``: its largest IoU with an object of another class is at least ``foreground``;
    * ``DUPLICATE``: its largest IoU with an object of its class is at least ``foreground``, but that is taken;
    * ``BOTH``: its largest IoU with an object of another class is in [``background``, ``foreground``);
    * ``BACKGROUND``: it overlaps no object by ``background``. Difficult objects are none of these.

    An object is missed if no detection finds it and no error of classification or localisation refers to it.

    Args:
        detections: of all scores.
        objects: only of images that were annotated; difficult ones are regions to be ignored.
        num_classes: C.
        foreground: least IoU of a true detection.
        background: least IoU of what is no background.

    Raises:
        ValueError: unless 0 < ``background`` < ``foreground`` <= 1; if a label is outside 0 to C - 1, a box is not
            finite, or a score is NaN.

    Example:
        >>> box, one = np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([0])
        >>> found = Detections(one, box, np.array([1]), np.array([0.7]))
        >>> errors = find_errors(found, Objects(one, box, one, np.array([False])), 2)
        >>> Verdict(errors.verdicts[0]).name, errors.objects.tolist(), errors.missed.tolist()
        ('CLASSIFICATION', [0], [False])
    """
    if not 0 < background < foreground <= 1:
        raise ValueError(
            f"expected 0 < background < foreground <= 1, got background {background} and foreground {foreground}"
        )
    check_boxes(detections, objects, num_classes)
    matches = match_objects(detections, objects, foreground)
    (own, own_overlap), (other, other_overlap) = _largest_overlaps(detections, objects, background)
    rules = [
        (matches.true, Verdict.TRUE, matches.object),
        (~matches.false, Verdict.IGNORED, matches.object),
        ((own_overlap >= background) & (own_overlap < foreground), Verdict.LOCALISATION, own),
        (other_overlap >= foreground, Verdict.CLASSIFICATION, other),
        (own_overlap >= foreground, Verdict.DUPLICATE, own),
        (other_overlap >= background, Verdict.BOTH, other),
    ]
    conditions, verdicts, referred = zip(*rules, strict=True)
    codes = np.select(conditions, verdicts, Verdict.BACKGROUND).astype(np.int8)
    return _with_objects(codes, np.select(conditions, referred, -1), objects)


def _largest_overlaps(
    detections: Detections, objects: Objects, least: float
) -> tuple[tuple[Integers, Floats], tuple[Integers, Floats]]:
    """Return the object of its class, and that of another, which each detection overlaps most, and the overlap.

    Objects are -1 and overlaps 0 where none is at least ``least``. Difficult objects are left out.
    """
    counted = np.flatnonzero(~objects.difficult)
    pairs = overlaps(detections, objects.take(counted), least, same_class=False)
    pairs = pairs._replace(object=counted[pairs.object])
    same = detections.labels[pairs.detection] == objects.labels[pairs.object]
    return _largest(pairs, same, len(detections.labels)), _largest(pairs, ~same, len(detections.labels))


def _largest(pairs: Pairs, rows: Flags, num_detections: int) -> tuple[Integers, Floats]:
    detection, partner, overlap = pairs.detection[rows], pairs.object[rows], pairs.overlap[rows]
    order, rank = best_first(detection, overlap)
    best = order[rank == 0]
    found, most = np.full(num_detections, -1), np.zeros(num_detections)
    found[detection[best]], most[detection[best]] = partner[best], overlap[best]
    return found, most


def _with_objects(verdicts: NDArray[np.int8], referred: Integers, objects: Objects) -> BoxErrors:
    found, explained = np.zeros((2, len(objects.labels)), dtype=np.bool_)
    found[referred[verdicts == Verdict.TRUE]] = True
    explained[referred[np.isin(verdicts, (Verdict.CLASSIFICATION, Verdict.LOCALISATION))]] = True
    return BoxErrors(verdicts, referred, found, ~(found | explained | objects.difficult))


def count_errors(
    errors: BoxErrors, detections: Detections, objects: Objects, num_classes: int
) -> dict[str, NDArray[np.int64]]:
    """Return how many detections of each class have each verdict, and how many of its objects are missed.

    The verdicts sum up to the number of detections. A false detection counts for the class that it has, not for that of
    the object.

    Returns:
        By name, ``true``, ``ignored`` and `ERROR_NAMES`: ``(C,)``.
    """
    labels = {verdict.name.lower(): detections.labels[errors.verdicts == verdict] for verdict in Verdict}
    labels["missed"] = objects.labels[errors.missed]
    return {name: np.bincount(rows, minlength=num_classes) for name, rows in labels.items()}


class _Reading(NamedTuple):
    """What average precision is made of.

    Attributes:
        labels: ``(B,)``.
        true: ``(B,)``.
        false: ``(B,)``; what is neither is left out.
        num_objects: ``(C,)``.
    """

    labels: Integers
    true: Flags
    false: Flags
    num_objects: Integers


def error_costs(errors: BoxErrors, detections: Detections, objects: Objects, num_classes: int) -> ErrorCosts:
    """Return average precision, and how much of it each type of error costs: what would be won if it alone was mended.

    Average precision is COCO's mean at 101 recalls, at the IoU of `find_errors`. An error is mended as the paper says:
    the class or the box of a detection is set right, which makes it true, if it is the best of its type to refer to its
    object and the object is not found already; all others of these two types, and those of the other types, are
    deleted. Missed objects, and for ``false_negative`` all that are not found, are taken out of the number of objects;
    for ``false_positive`` all false detections are deleted. The gains do not add up, and none is below 0.

    Example:
        >>> box, one = np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([0])
        >>> found, truth = Detections(one, box, one + 1, np.array([0.7])), Objects(one, box, one, np.array([False]))
        >>> costs = error_costs(find_errors(found, truth, 2), found, truth, 2)
        >>> costs.ap, round(costs.delta["classification"], 6), costs.delta["background"]
        (0.0, 1.0, 0.0)
    """
    is_true = errors.verdicts == Verdict.TRUE
    is_false = errors.verdicts >= Verdict.CLASSIFICATION
    now = _Reading(detections.labels, is_true, is_false, _counts(objects, ~objects.difficult, num_classes))
    mended = {
        verdict.name.lower(): now._replace(false=is_false & (errors.verdicts != verdict))
        for verdict in Verdict
        if verdict > Verdict.IGNORED
    }
    for verdict in (Verdict.CLASSIFICATION, Verdict.LOCALISATION):
        name = verdict.name.lower()
        mended[name] = _set_right(mended[name], errors, verdict, detections, objects)
    mended["missed"] = now._replace(num_objects=now.num_objects - _counts(objects, errors.missed, num_classes))
    mended["false_positive"] = now._replace(false=np.zeros_like(is_false))
    mended["false_negative"] = now._replace(num_objects=_counts(objects, errors.found, num_classes))
    before = _average_precision(now, detections.scores)
    after = {name: _average_precision(reading, detections.scores) for name, reading in mended.items()}
    ap = _mean(before)
    delta = {name: _mean(values) - ap for name, values in after.items()}
    return ErrorCosts(ap, before, delta, {name: values - before for name, values in after.items()})


def _counts(objects: Objects, rows: Flags, num_classes: int) -> Integers:
    return np.bincount(objects.labels[rows], minlength=num_classes)


def _set_right(
    reading: _Reading, errors: BoxErrors, verdict: Verdict, detections: Detections, objects: Objects
) -> _Reading:
    """Of the detections of a verdict, make the best for each object not found true, and give it the object's class."""
    rows = np.flatnonzero(errors.verdicts == verdict)
    rows = rows[~errors.found[errors.objects[rows]]]
    order, rank = best_first(errors.objects[rows], detections.scores[rows])
    best = rows[order][rank == 0]
    labels, true = reading.labels.copy(), reading.true.copy()
    labels[best], true[best] = objects.labels[errors.objects[best]], True
    return reading._replace(labels=labels, true=true)


def _average_precision(reading: _Reading, scores: Floats) -> Floats:
    """Return the average precision of each class ``(C,)``."""
    order, _ = best_first(reading.labels, scores)
    num_classes = len(reading.num_objects)
    ends = np.searchsorted(reading.labels[order], np.arange(1, num_classes))
    columns = (np.split(flags[order], ends) for flags in (reading.true, reading.false))
    rows = zip(*columns, reading.num_objects.tolist(), strict=True)
    return np.array([hundred_one_point(precision_at_true(true, false), count) for true, false, count in rows])


def _mean(values: Floats) -> float:
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if len(numbers) else float("nan")
