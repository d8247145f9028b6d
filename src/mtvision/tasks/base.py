"""The contract of a task: everything that is particular to it is behind these methods."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from mtvision.errors import DataError
from mtvision.registry import Component, Registry

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


logger = logging.getLogger(__name__)


class Task(nn.Module, ABC):
    """Head + loss + postprocess + metrics.

    Attributes:
        main_metric: the entry of ``metrics().compute()`` that stands for the task in a combined score, a fraction in
            [0, 1] of which more is better.
        class_metrics: the entries that hold one value a class.
        compilable: names of attributes that are pure functions of tensors, of which the loss is made; with
            ``system.compile`` they are compiled too.
    """

    main_metric: ClassVar[str]
    class_metrics: ClassVar[frozenset[str]] = frozenset()
    compilable: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> Any:
        """Return the task's output, a NamedTuple of tensors.

        Args:
            features: of the backbone (or neck), finest first.
            image_size: ``(H, W)`` of the images as the network got them.
        """

    def select(self, annotations: Mapping[str, Any], name: str) -> Any:
        """Return the task's own part of a batch's targets or truths: the entry of its name.

        A task that learns from what is annotated for another one overrides this.

        Args:
            annotations: ``targets`` or ``truths`` of a `Batch`.
            name: that the task has in the model.

        Raises:
            DataError: if there is no such entry.
        """
        if name not in annotations:
            raise DataError(
                f"annotations for task '{name}' are missing; got {sorted(annotations)}. An image in which nobody "
                "looked has an entry None, not none"
            )
        return annotations[name]

    @abstractmethod
    def loss(self, output: Any, target: Any) -> dict[str, Tensor]:
        """Return the task's losses by part, scalars; their plain sum is the loss of the task.

        A batch in which nothing is annotated for the task gives zeros that are connected to ``output``.
        """

    @abstractmethod
    def postprocess(self, output: Any, image_sizes: Sequence[tuple[int, int]] | None = None) -> list[Any]:
        """Return one prediction an image, in pixels of ``image_sizes`` (H, W each; None: of the network's input)."""

    def confidence(self, output: Any, image_sizes: Sequence[tuple[int, int]] | None = None) -> list[Tensor] | None:
        """Return how sure each pixel of a prediction is; None for a task that predicts no class of each pixel.

        Returns:
            One ``(H, W)`` an image of the size asked for as in `postprocess`: the probability in [0, 1] of the class
            that is predicted.
        """
        del output, image_sizes
        return None

    @abstractmethod
    def metrics(self) -> "MetricCollection":
        """Return new metrics; ``update(predictions, truths)`` takes two lists; a truth of None is skipped."""


def with_dropout(registry: Registry[Any], choice: Component, rate: float) -> Component:
    """Return a choice with ``dropout_rate`` where the part has that option and was not given its own.

    A part without the option is named in the log, since the rate does not act in it.
    """
    if "dropout_rate" in choice.options:
        return choice
    if "dropout_rate" in registry.option_names(choice.name):
        return Component(choice.name, {**choice.options, "dropout_rate": rate})
    if rate > 0:
        logger.warning(
            "%s '%s' has no option 'dropout_rate': model.dropout_rate=%g does not act in it",
            registry.noun,
            choice.name,
            rate,
        )
    return choice
