"""Evaluation protocols by name: which of them score a task, and what such an evaluator can do."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, singledispatch
from typing import Any, Protocol, TypeAlias

from torch import nn

from mtvision.errors import ConfigError, did_you_mean
from mtvision.tasks.detection import DetectionTask
from mtvision.tasks.protocol_result import ProtocolResult
from mtvision.tasks.segmentation import SegmentationTask


class Evaluator(Protocol):
    """Scores one task by one protocol over a data set, batch by batch."""

    def update(self, predictions: Sequence[Any], truths: Sequence[Any]) -> None:
        """Count the images of a batch; an image whose truth is None is left out."""

    def state(self) -> Any:
        """Return what was counted, which can travel between processes."""

    def merge(self, states: Sequence[Any]) -> None:
        """Take what several evaluators counted, in the order of their images; of a new evaluator."""

    def compute(self) -> ProtocolResult:
        """Return the numbers of what was counted."""


MakeEvaluator: TypeAlias = Callable[[], Evaluator]
"""Makes an evaluator that has counted nothing yet."""


@singledispatch
def protocols_of(task: nn.Module) -> Mapping[str, MakeEvaluator]:
    """Return what makes the evaluators of a kind of task, by the protocol's name; none for a task without protocols.

    A task of one's own adds its protocols with ``protocols_of.register``.

    Args:
        task: of a model.

    Example:
        >>> protocols_of(nn.Identity())
        {}
    """
    del task
    return {}


@protocols_of.register
def _of_segmentation(task: SegmentationTask) -> Mapping[str, MakeEvaluator]:
    from mtvision.tasks.segmentation_protocols import SEGMENTATION_PROTOCOLS  # it loads torchmetrics

    return {name: partial(make, task.num_classes) for name, make in SEGMENTATION_PROTOCOLS.items()}


@protocols_of.register
def _of_detection(task: DetectionTask) -> Mapping[str, MakeEvaluator]:
    from mtvision.tasks.detection_protocols import DETECTION_PROTOCOLS

    return {name: partial(make, task.num_classes) for name, make in DETECTION_PROTOCOLS.items()}


def chosen_protocols(
    tasks: Mapping[str, nn.Module], protocol: str | Sequence[str] | None
) -> dict[tuple[str, str], MakeEvaluator]:
    """Return what makes the evaluators asked for, by the names of task and protocol.

    Args:
        tasks: of a model, by name.
        protocol: one name, or several; None: no protocol.

    Raises:
        ConfigError: if a name is no protocol of any of the tasks; all such names are told.

    Example:
        >>> chosen_protocols({}, None)
        {}
    """
    names = [protocol] if isinstance(protocol, str) else list(dict.fromkeys(protocol or ()))
    offered = {task: protocols_of(module) for task, module in tasks.items()}
    known = [name for protocols in offered.values() for name in protocols]
    problems = [_unknown(name, list(tasks), list(dict.fromkeys(known))) for name in names if name not in known]
    if problems:
        raise ConfigError(problems)
    return {(task, name): makers[name] for task, makers in offered.items() for name in names if name in makers}


def _unknown(name: str, tasks: Sequence[str], known: Sequence[str]) -> str:
    which = ", ".join(map(repr, tasks))
    return f"protocol: '{name}' scores none of the tasks {which}.{did_you_mean(name, known)} Known: {', '.join(known)}"
