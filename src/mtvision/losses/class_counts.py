"""Losses that want to know how often each class occurs, and the weights that are made of it."""

import logging
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from torch import Tensor, nn

from mtvision.config_errors import error_sentence, problem, sentence_error
from mtvision.data.statistics.class_counts import ClassCounts, class_pixel_counts
from mtvision.errors import ConfigError, did_you_mean
from mtvision.types import VOID, Sample

logger = logging.getLogger(__name__)

Rule: TypeAlias = Callable[[ClassCounts], NDArray[np.float64]]


def _in_one_sentence(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Say once what is wrong with what may be a list, a number or a word: pydantic says it once a kind."""
    try:
        return handler(value)
    except ValidationError as error:
        items = error.errors()
    inside = [item for item in items if any(isinstance(step, int) for step in item["loc"])]
    if inside:  # it is a list, so that what it is not does not matter
        details = [problem(item["loc"], error_sentence(item), item["input"]) for item in inside]
        raise ValidationError.from_exception_data("class weights", details)
    got = f", got {value!r}"
    kinds = " or ".join(error_sentence(item).removeprefix("must be ").removesuffix(got) for item in items)
    words = [word for item in items for word in re.findall(r"'(\w+)'", item.get("ctx", {}).get("expected", ""))]
    nearest = did_you_mean(value, words) if isinstance(value, str) else ""
    raise sentence_error(f"must be {kinds}{got}" + (f".{nearest}" if nearest else ""))


OneSentence: Final = WrapValidator(_in_one_sentence)
"""Of an option that may be a list, a number or a word."""

WeightRule: TypeAlias = Literal["balanced", "median_frequency"]
ClassWeights: TypeAlias = Annotated[list[Annotated[float, Field(ge=0)]] | WeightRule | None, OneSentence]


@runtime_checkable
class SupportsClassCounts(Protocol):
    """A module, usually a loss, that is pending until it is told the class counts of the training set.

    Attributes:
        needs_class_counts: whether it still waits for them.
    """

    needs_class_counts: bool

    def set_class_counts(self, counts: ClassCounts) -> None:
        """Take the counts."""


def fill_class_counts(model: nn.Module, dataset: Sequence[Sample], *, skip_bad: bool = False) -> None:
    """Tell all pending modules of a model the class counts of a data set, which is read only if there are any.

    How many classes there are says the module around a pending one that has ``num_classes``, as tasks do.

    Args:
        model: any module.
        dataset: to be read.
        skip_bad: leave out items that cannot be read.

    Example:
        >>> from mtvision.data.readers.shapes import Shapes
        >>> from mtvision.losses.segmentation import CrossEntropy
        >>> task = nn.Sequential(CrossEntropy(class_weights="balanced"))
        >>> task.num_classes = 6
        >>> fill_class_counts(task, Shapes("train", num_images=4, image_size=32))
        >>> task[0].needs_class_counts
        False
    """
    for owner in model.modules():
        num_classes = getattr(owner, "num_classes", None)
        pending = _pending(owner) if isinstance(num_classes, int) else []
        if isinstance(num_classes, int) and pending:
            counts = class_pixel_counts(dataset, num_classes, skip_bad=skip_bad)
            for module in pending:
                module.set_class_counts(counts)


def _pending(owner: nn.Module) -> list[SupportsClassCounts]:
    return [
        module for module in owner.modules() if isinstance(module, SupportsClassCounts) and module.needs_class_counts
    ]


def balanced_weights(counts: ClassCounts) -> NDArray[np.float64]:
    """Return ``n / (C n_c)``: n annotated pixels, n_c of class c (King and Zeng 2001; scikit-learn's ``balanced``).

    C is the number of classes that occur. One that does not occur gets 1.

    Example:
        >>> balanced_weights(ClassCounts(np.array([30, 10, 0]), np.array([40, 40, 0]))).round(3).tolist()
        [0.667, 2.0, 1.0]
    """
    present = counts.pixels > 0
    shares = counts.pixels[present] / counts.pixels.sum()
    return _filled(1 / (present.sum() * shares), present)


def median_frequency_weights(counts: ClassCounts) -> NDArray[np.float64]:
    """Return the median of all classes' frequencies over that of each class (Eigen and Fergus 2015, arXiv 1411.4734).

    The frequency of a class is its pixels divided by the annotated pixels of the images in which it occurs. The median
    is that of the classes that occur. One that does not occur gets 1.

    Example:
        >>> median_frequency_weights(ClassCounts(np.array([30, 10, 0]), np.array([40, 20, 0]))).round(3).tolist()
        [0.833, 1.25, 1.0]
    """
    present = counts.pixels > 0
    frequencies = counts.pixels[present] / counts.image_pixels[present]
    return _filled(np.median(frequencies) / frequencies if present.any() else frequencies, present)


def _filled(weights: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return one weight a class: 1 for those that do not occur."""
    filled = np.ones(len(present))
    filled[present] = weights
    return filled


_RULES: dict[str, Rule] = {"balanced": balanced_weights, "median_frequency": median_frequency_weights}


class ClassValues(nn.Module):
    """Base of a loss that holds one value a class in a buffer: given, or found by a rule from the class counts.

    Values that are given are no part of the state dict: the config has them. Those found by a rule are, so that a
    checkpoint is complete in itself; the number of classes being unknown when a loss is built, their buffer has room
    for all 255.

    Args:
        name: of the buffer, and of the option in messages.
        values: one a class; the name of a rule of this page; None: no values.
        rule: a rule of the loss's own.
        initial: what stands in for each class until the class counts are known.
    """

    def __init__(
        self, name: str, values: Sequence[float] | str | None, rule: Rule | None = None, initial: float = 1.0
    ) -> None:
        super().__init__()
        self.needs_class_counts = False
        self._name, self._initial, self._warned = name, initial, False
        self._rule = _RULES[values] if isinstance(values, str) else rule
        self._num_classes: int | None = None
        held = None if values is None or isinstance(values, str) else torch.tensor(values, dtype=torch.float32)
        if self._rule is not None:
            held = torch.full((VOID,), initial)
            self.needs_class_counts = True
            self.register_load_state_dict_post_hook(_mark_known)  # type: ignore[no-untyped-call]
        self.register_buffer(name, held, persistent=self._rule is not None)

    def set_class_counts(self, counts: ClassCounts) -> None:
        """Find the values of ``len(counts.pixels)`` classes; values that were given stay."""
        if self._rule is None:
            return
        held = self.get_buffer(self._name)
        values = torch.from_numpy(self._rule(counts)).to(held)
        held.fill_(self._initial)[: len(values)] = values
        self._num_classes = len(values)
        self.needs_class_counts = False

    def values(self, logits: Tensor) -> Tensor | None:
        """Return the values for logits ``(N, C, H, W)``, as many as were given, or C of those found."""
        self.check_counts(logits)
        held: Tensor | None = getattr(self, self._name)
        return held if held is None or self._rule is None else held[: logits.shape[1]]

    def check_counts(self, logits: Tensor) -> None:
        """Warn, once, of training without the class counts.

        Raises:
            ConfigError: if the counts were of another number of classes.
        """
        known, wanted = self._num_classes, logits.shape[1]
        if known not in (None, wanted):
            raise ConfigError(
                [f"training.seg_loss.{self._name}: the class counts are of {known} classes, not of {wanted}"]
            )
        trains = self.training and logits.requires_grad and torch.is_grad_enabled()
        if self.needs_class_counts and trains and not (self._warned or torch.compiler.is_compiling()):
            self._warned = True
            logger.warning(
                "training.seg_loss.%s: the class counts of the training set are not known yet, %g stands in for each "
                "class: call set_class_counts(class_pixel_counts(dataset, num_classes)), or train with Trainer",
                self._name,
                self._initial,
            )


def _mark_known(module: nn.Module, incompatible_keys: Any) -> None:
    if isinstance(module, ClassValues) and not any(
        key.endswith(module._name) for key in incompatible_keys.missing_keys
    ):
        module.needs_class_counts = False
