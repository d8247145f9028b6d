"""Scoring by protocols, of all tasks of a model at once."""

from collections.abc import Sequence

from mtvision.model import MultiTaskModel
from mtvision.tasks.protocols import Evaluator, chosen_protocols
from mtvision.training import processes
from mtvision.training.evaluation_result import by_class
from mtvision.types import Classes


class ProtocolScores:
    """The evaluators of the protocols asked for, one for each task that a protocol scores.

    Args:
        model: whose tasks are scored.
        protocol: one name or several; None: no protocol, and no numbers.

    Raises:
        ConfigError: if one of them scores none of the tasks.
    """

    def __init__(self, model: MultiTaskModel, protocol: str | Sequence[str] | None) -> None:
        self._makers = chosen_protocols({name: model.task(name) for name in model.tasks}, protocol)
        self._evaluators = {key: make() for key, make in self._makers.items()}

    def of(self, task: str) -> list[Evaluator]:
        """Return the evaluators of a task, which count its predictions."""
        return [evaluator for (scored, _), evaluator in self._evaluators.items() if scored == task]

    def compute(self, classes: Classes | None, shared: bool) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """Return the numbers, and those of each class by its name; both by ``<task>/<protocol>/<number>``.

        Args:
            classes: names of the classes; numbers where there are none.
            shared: whether all processes' images count, in the order of the processes; all of them must ask.
        """
        scalars: dict[str, float] = {}
        tables: dict[str, dict[str, float]] = {}
        for (task, protocol), own in self._evaluators.items():
            result = (self._whole(task, protocol) if shared and processes.number() > 1 else own).compute()
            scalars |= {f"{task}/{protocol}/{key}": value for key, value in result.metrics.items()}
            for key, values in result.per_class.items():
                tables[f"{task}/{protocol}/{key}"] = by_class(values, task, classes)
        return scalars, tables

    def _whole(self, task: str, protocol: str) -> Evaluator:
        """Return an evaluator with what all processes counted."""
        whole = self._makers[task, protocol]()
        whole.merge(processes.gather(self._evaluators[task, protocol].state()))
        return whole
