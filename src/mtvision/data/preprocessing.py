"""Which mean and standard deviation the model normalises images with, and computing those of a data set."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mtvision.data.base import own_fingerprint
from mtvision.data.reading import readable
from mtvision.data.statistics_cache import cache_file, read_cached, write_cached
from mtvision.errors import ConfigError, DataError
from mtvision.layers.normalization import IMAGENET_MEAN, IMAGENET_STD
from mtvision.registries import PREPROCESSING
from mtvision.types import Sample

Channels: TypeAlias = tuple[float, float, float]
_Fraction = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]

_SMALLEST_STD = 1 / 255  # one grey level, so that a set of uniformly coloured images can be divided by it


@dataclass(frozen=True, slots=True)
class Normalization:
    """Mean and standard deviation of R, G, B for images in [0, 1]; None: those of the data set, not computed yet."""

    mean: Channels | None
    std: Channels | None

    @property
    def is_known(self) -> bool:
        """Whether both are numbers."""
        return self.mean is not None and self.std is not None


@PREPROCESSING.register("standardize")
def standardize() -> Normalization:
    """ImageNet's mean and standard deviation, which pretrained backbones expect (Krizhevsky et al., 2012)."""
    return Normalization(IMAGENET_MEAN, IMAGENET_STD)


@PREPROCESSING.register("normalize")
def normalize(
    *,
    mean: tuple[_Fraction, _Fraction, _Fraction] | None = None,
    std: tuple[_Positive, _Positive, _Positive] | None = None,
) -> Normalization:
    """The data set's own mean and standard deviation, computed once, or those given (as in LeCun et al. 1998).

    LeCun, Bottou, Orr, Müller: Efficient BackProp, section 4.3.

    Args:
        mean: of red, green and blue, in [0, 1]; None: computed from the training set.
        std: standard deviation, likewise; both or neither.

    Raises:
        ConfigError: if only one of both is given.
    """
    if (mean is None) != (std is None):
        missing = "mean" if mean is None else "std"
        raise ConfigError(
            [f"data.preprocessing: 'normalize' needs mean and std together or neither; {missing} is missing"]
        )
    return Normalization(mean, std)


@PREPROCESSING.register("none")
def none() -> Normalization:
    """Images stay in [0, 1] (mtvision)."""
    return Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def compute_statistics(dataset: Sequence[Sample], cache: bool = True, *, skip_bad: bool = False) -> Normalization:
    """Return mean and standard deviation of R, G, B over all pixels of all images, in [0, 1], in one pass.

    The result is kept in ``$MTVISION_CACHE``, else ``$XDG_CACHE_HOME/mtvision``, else ``~/.cache/mtvision``, never in
    the data set's folder, under the data set's `fingerprint`. A standard deviation is at least 1/255.

    Args:
        dataset: to be read.
        cache: False: neither read nor write the cache.
        skip_bad: leave out items that cannot be read.

    Raises:
        DataError: if the data set is empty or an item cannot be read.

    Example:
        >>> from mtvision.data.readers.shapes import Shapes
        >>> compute_statistics(Shapes("train", num_images=4, image_size=32), cache=False).is_known
        True
    """
    key = fingerprint(dataset) if cache else None
    path = _cache_path(key) if key is not None else None
    known = read_cached(path, _parse) if path is not None else None
    if known is not None:
        return known
    computed = normalization_of(_count_values(dataset, skip_bad))
    if key is not None:
        keep_statistics(key, computed)
    return computed


def keep_statistics(key: str, statistics: Normalization) -> None:
    """Write what another pass over a data set has made to where `compute_statistics` looks, by the `fingerprint`."""
    write_cached(_cache_path(key), {"mean": statistics.mean, "std": statistics.std})


def _cache_path(key: str) -> Path:
    return cache_file("statistics", key)


def fingerprint(dataset: Sequence[Sample]) -> str | None:
    """Return a digest that changes whenever the images of a data set may have changed.

    A data set tells it by a method ``fingerprint() -> str``; None for one that has no such method, or whose class
    inherits it but reads its items in its own way, of which the inherited one knows nothing.
    """
    own = own_fingerprint(dataset)
    return None if own is None else hashlib.sha256(f"{type(dataset).__name__} {own}".encode()).hexdigest()


def _count_values(dataset: Sequence[Sample], skip_bad: bool) -> NDArray[np.int64]:
    """Count how often each value occurs in each channel, ``(3, 256)``: exact, whatever the number of pixels."""
    if len(dataset) == 0:
        raise DataError("the mean and standard deviation of an empty data set are not defined")
    counts = np.zeros((3, 256), dtype=np.int64)
    for sample in readable(dataset, skip_bad):
        counts += value_counts(sample.image)
    return counts


def value_counts(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how often each value occurs in each channel of an image ``(H, W, 3)``: int64 ``(3, 256)``."""
    return np.stack([np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(3)])


def normalization_of(counts: NDArray[np.int64]) -> Normalization:
    """Return mean and standard deviation of values in [0, 1] from the sum of their `value_counts`, ``(3, 256)``."""
    values = np.arange(256, dtype=np.float64) / 255
    weights = counts / counts.sum(axis=1, keepdims=True)  # (3, 256)
    mean = weights @ values
    variance = (weights * (values - mean[:, None]) ** 2).sum(axis=1)
    std = np.maximum(np.sqrt(variance), _SMALLEST_STD)
    return Normalization(_channels(mean.tolist()), _channels(std.tolist()))


def _channels(values: Sequence[float]) -> Channels:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _parse(content: Any) -> Normalization:
    """Return the statistics of a cache file.

    Raises:
        ValueError: if it holds none (or a LookupError, a TypeError).
    """
    mean, std = _channels(content["mean"]), _channels(content["std"])
    if not (np.isfinite([mean, std]).all() and min(std) > 0):
        raise ValueError(f"mean {mean} and std {std} are no statistics")
    return Normalization(mean, std)
