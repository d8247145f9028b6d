"""Which samples an epoch of training has, and in which order: a function of (seed, epoch) alone."""

import logging
from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mtvision.data.statistics.annotation_table import AnnotationTable, annotation_table, classes_of
from mtvision.errors import DataError
from mtvision.registries import SAMPLERS
from mtvision.types import Sample

logger = logging.getLogger(__name__)

Indices: TypeAlias = NDArray[np.int64]
Values: TypeAlias = NDArray[np.float64]
Over: TypeAlias = Literal["boxes", "pixels", "both"]
Threshold: TypeAlias = Annotated[float, Field(gt=0, le=1)] | Literal["median"]
Share: TypeAlias = Annotated[float, Field(gt=0, le=1)]

_SHOWN = 5
_ROUNDING = 1e-9


@runtime_checkable
class Order(Protocol):
    """What a sampler is: the indices of each epoch.

    It holds nothing that changes, so that a resumed run and every one of several processes has the same epochs without
    a word to each other. An epoch has exactly as many entries as the data set has samples, whatever the sampler: runs
    with different ones then take the same number of steps on the same learning-rate schedule, and can be compared.
    """

    def order(self, seed: int, epoch: int) -> Indices:
        """Return the indices of an epoch, int64 ``(N,)`` for a data set of N samples; one may occur several times.

        Args:
            seed: of the run.
            epoch: counted from 0.
        """


class Uniform:
    """Every sample once an epoch, in an order of its own for each (seed, epoch).

    Args:
        num_samples: N.

    Example:
        >>> sorted(Uniform(4).order(seed=0, epoch=7).tolist())
        [0, 1, 2, 3]
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def order(self, seed: int, epoch: int) -> Indices:
        """Return a permutation."""
        return _generator(seed, epoch).permutation(self.num_samples)


class Weighted:
    """Samples as often as their weights say: N draws an epoch, N times the weight over the sum of the weights for each.

    The draw is systematic (Madow 1949): all samples lie on a line in an order of the epoch's own, each as long as it is
    expected to be drawn, and every point at a whole number after one random offset draws one. So a sample is drawn as
    often as expected, rounded down or up, and on average over the epochs exactly as often. One that is expected less
    than once is absent from some epochs. With equal weights the order is that of `Uniform`.

    Args:
        weights: float ``(N,)``, above 0.

    Example:
        >>> Weighted(np.array([1.0, 1.0, 2.0])).expected.tolist()
        [0.75, 0.75, 1.5]
    """

    def __init__(self, weights: Values) -> None:
        self._weights = np.asarray(weights, dtype=np.float64) / np.min(weights)  # equal ones: 1, not rounded

    @property
    def expected(self) -> Values:
        """How often each sample comes in an epoch on average, ``(N,)``."""
        expected: Values = self._weights * (len(self._weights) / self._weights.sum())
        return expected

    def order(self, seed: int, epoch: int) -> Indices:
        """Return the indices of an epoch, each as often as expected, rounded down or up."""
        generator, number = _generator(seed, epoch), len(self._weights)
        places = generator.permutation(number)
        line = generator.permutation(number)
        ends = np.cumsum(self._weights[line])
        passed = np.floor(ends * (number / ends[-1]) + generator.random())  # points up to the end of each sample
        passed = np.append(np.minimum(passed[:-1], number), number)  # whatever was rounded
        counts = np.empty(number, dtype=np.int64)
        counts[line] = np.diff(passed, prepend=0)
        return np.repeat(np.arange(number), counts)[places]


class CompleteShare:
    """Batches of which a share at least is annotated for all tasks, in so far as there are such samples.

    Each batch takes its part of the complete samples: at least one, and the share of its size rounded up; the places
    that remain are filled from all the others. Where there are enough complete samples for that, an epoch has every
    sample once. Where there are fewer they are repeated in new orders, each as often as the others or once more, and as
    many of the other samples, of which none comes twice, are absent from the epoch: the price of a share above the
    natural one. With a share of 1 they never come.

    Args:
        is_complete: bool ``(N,)``; some, but not all.
        batch_size: samples in a batch, over all processes.
        share: of complete samples, above 0 and up to 1.

    Example:
        >>> batches = CompleteShare(np.array([True, False, False, False]), batch_size=2, share=0.5)
        >>> sorted(batches.order(seed=0, epoch=0).reshape(2, 2).min(axis=1).tolist())
        [0, 0]
    """

    def __init__(self, is_complete: NDArray[np.bool_], batch_size: int, share: float) -> None:
        self._complete, self._others = np.flatnonzero(is_complete), np.flatnonzero(~is_complete)
        self._batch_size = batch_size
        starts = np.arange(0, len(is_complete), batch_size)
        sizes = np.minimum(batch_size, len(is_complete) - starts)  # the last batch may be smaller
        wanted = np.ceil(share * sizes - _ROUNDING).astype(np.int64)  # at least 1, as the share is above 0
        rank = np.arange(len(is_complete)) - np.repeat(starts, sizes)  # of each place in its batch
        self._is_reserved = rank < np.repeat(wanted, sizes)  # (N,)

    def order(self, seed: int, epoch: int) -> Indices:
        """Return the indices of an epoch, batch after batch."""
        generator, reserved = _generator(seed, epoch), self._is_reserved
        number = int(reserved.sum())
        rounds = max(-(-number // len(self._complete)), 1)
        complete = np.concatenate([generator.permutation(self._complete) for _ in range(rounds)])
        spare = self._complete[:0] if rounds > 1 else complete[number:]
        others = generator.permutation(np.concatenate([spare, self._others]))
        chosen = np.empty(len(reserved), dtype=np.int64)
        chosen[reserved], chosen[~reserved] = complete[:number], others[: len(reserved) - number]
        # a batch has its complete samples first: mix, since several processes take parts of a batch
        batches = np.arange(len(reserved)) // self._batch_size
        return chosen[np.lexsort((generator.random(len(reserved)), batches))]


def occurrences(order: Indices) -> Indices:
    """Return how often the index at each place has come before it, ``(N,)``: what tells the repeats of a sample apart.

    Example:
        >>> occurrences(np.array([5, 7, 5, 5])).tolist()
        [0, 0, 1, 2]
    """
    places = np.argsort(order, kind="stable")
    ordered, rank = order[places], np.arange(len(order))
    is_first = np.append(True, ordered[1:] != ordered[:-1])[: len(order)]
    found = np.empty(len(order), dtype=np.int64)
    found[places] = rank - np.maximum.accumulate(np.where(is_first, rank, 0))
    return found


def _generator(seed: int, epoch: int) -> "np.random.Generator":
    return np.random.default_rng(np.random.SeedSequence([seed, epoch]))


@SAMPLERS.register("uniform")
def uniform(dataset: Sequence[Sample], batch_size: int) -> Uniform:  # noqa: ARG001 - every sampler is called with it
    """Every sample once an epoch, shuffled (mtvision)."""
    return Uniform(len(dataset))


@SAMPLERS.register("class_balanced")
def class_balanced(
    dataset: Sequence[Sample],
    batch_size: int,  # noqa: ARG001 - every sampler is called with it
    *,
    threshold: Threshold = "median",
    over: Over = "both",
) -> Weighted:
    """Images with rare classes more often, by repeat factors (Gupta, Dollar and Girshick 2019, arXiv 1908.03195).

    See `repeat_factors` and `Weighted`; it needs one pass over the data set, whose result is kept.

    Args:
        dataset: that is drawn from.
        batch_size: not used.
        threshold: a class in a smaller share of the images than this is rare, in (0, 1]; ``median``: of the classes.
        over: the classes of the ``boxes``, of the masks' ``pixels``, or of ``both``.

    Raises:
        DataError: if no image is annotated for what is looked ``over``, or the data set has no ``classes``.
    """
    table = annotation_table(dataset, skip_bad=True)
    weighted = Weighted(repeat_factors(table, threshold, over))
    classes = classes_of(dataset)
    names = {"boxes": classes.detection, "pixels": classes.segmentation[1:]}
    for kind, (present, annotated) in _looked_at(table, over).items():
        _log_factors(kind, names[kind], class_factors(present, annotated, threshold))
    expected = weighted.expected
    logger.info("class_balanced: an image comes %.2f to %.2f times an epoch", expected.min(), expected.max())
    return weighted


@SAMPLERS.register("annotated")
def annotated(dataset: Sequence[Sample], batch_size: int, *, share: Share = 0.5) -> Order:
    """In each batch a share of images that are annotated for masks and boxes, where there are any (mtvision).

    See `CompleteShare`; it needs one pass over the data set, whose result is kept. It does not balance classes.

    Args:
        dataset: that is drawn from.
        batch_size: of the batches, over all processes.
        share: of the fully annotated images in each batch, at least, in (0, 1].

    Raises:
        DataError: if the data set has no ``classes``.
    """
    is_complete = annotation_table(dataset, skip_bad=True).is_complete
    number, total = int(is_complete.sum()), len(is_complete)
    if number in (0, total):
        which = "every image has" if number else "no image has"
        logger.warning("data.sampler: 'annotated' acts as 'uniform': %s both a mask and boxes", which)
        return Uniform(total)
    logger.info("annotated: %d of %d images have both a mask and boxes", number, total)
    return CompleteShare(is_complete, batch_size, share)


def repeat_factors(table: AnnotationTable, threshold: float | Literal["median"], over: Over = "both") -> Values:
    """Return how often each image is to come, relative to one without a rare class: float ``(N,)``, at least 1.

    It is the largest of the `class_factors` of the classes that the image has, in its boxes, its mask, or both; 1 for
    one without classes and for one that is not annotated. The background never counts.

    Args:
        table: of the data set.
        threshold: share of the images below which a class is rare, or ``median``; see `class_factors`.
        over: ``boxes``, ``pixels`` or ``both``.

    Raises:
        DataError: if no image is annotated for what is looked ``over``.
    """
    factors = np.ones(len(table.has_mask))
    for present, of_images in _looked_at(table, over).values():
        per_class = class_factors(present, of_images, threshold)  # (C,)
        factors = np.maximum(factors, np.where(present, per_class, 1.0).max(axis=1, initial=1.0))
    return factors


def class_factors(
    present: NDArray[np.bool_], annotated: NDArray[np.bool_], threshold: float | Literal["median"]
) -> Values:
    """Return the repeat factor of each class, ``(C,)``: max(1, sqrt(t / f)) for a class in a share f of the images.

    The share is one of the annotated images: nobody knows what the others have. A class that does not occur has factor
    1. The paper's t of 0.001 is made for 1,203 classes and does nothing for 20 or 80, which all are more frequent;
    ``median`` takes the median of the shares of the classes that occur, and so acts on half of them for any number.

    Args:
        present: bool ``(N, C)``, whether an image has a class.
        annotated: bool ``(N,)``, whether anybody looked; at least one.
        threshold: t in (0, 1], or ``median``.

    Example:
        >>> present = np.array([[True, True], [True, False], [True, False], [True, False]])
        >>> class_factors(present, np.ones(4, dtype=bool), threshold=1.0).tolist()
        [1.0, 2.0]
    """
    shares = present[annotated].mean(axis=0)  # (C,)
    occurs = shares > 0
    factors = np.ones(len(shares))
    if occurs.any():
        limit = float(np.median(shares[occurs])) if threshold == "median" else threshold
        factors[occurs] = np.maximum(1, np.sqrt(limit / shares[occurs]))
    return factors


def _looked_at(table: AnnotationTable, over: Over) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return (present, annotated) by what they are of; the background left out, and what nobody annotated."""
    kinds = {"boxes": (table.box_classes, table.has_boxes), "pixels": (table.mask_classes[:, 1:], table.has_mask)}
    chosen = {kind: columns for kind, columns in kinds.items() if over in (kind, "both") and columns[1].any()}
    if not chosen:
        wanted = {"boxes": "boxes", "pixels": "a mask", "both": "boxes or a mask"}[over]
        raise DataError(f"data.sampler: 'class_balanced' over {over}: no image is annotated with {wanted}")
    return chosen


def _log_factors(kind: str, names: Sequence[str], factors: Values) -> None:
    rarest = [index for index in np.argsort(-factors, kind="stable") if factors[index] > 1]
    if not rarest:
        logger.warning(
            "class_balanced: no class of the %s is rarer than the threshold: nothing is balanced there", kind
        )
        return
    shown = ", ".join(f"{names[index]} x {factors[index]:.2f}" for index in rarest[:_SHOWN])
    rest = ", ..." if len(rarest) > _SHOWN else ""
    logger.info("class_balanced: %d of %d classes of the %s are rare: %s", len(rarest), len(names), kind, shown + rest)
