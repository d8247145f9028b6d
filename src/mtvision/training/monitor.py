"""Which epochs are the best, and whether there is hope of a better one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mtvision.config_sections import TrainingConfig
from mtvision.errors import ConfigError, did_you_mean
from mtvision.model import MultiTaskModel
from mtvision.training.evaluation import monitor_directions


class Monitor:
    """Keeps the best epochs by ``training.monitor``.

    Args:
        model: whose metrics can be monitored; their own ``higher_is_better`` tells the direction.
        settings: ``monitor`` and ``loss_weights`` must name something of this model.

    Raises:
        ConfigError: if one of them does not; the nearest name is suggested.

    Attributes:
        kept: epochs (counted from 1) and values of the best ``keep_best`` so far, best first; of equal ones the
            earlier is better, and where nothing was validated (NaN) the later.
    """

    def __init__(self, model: MultiTaskModel, settings: TrainingConfig) -> None:
        directions = monitor_directions(model)
        _check_names(model, settings, directions)
        self.name = settings.monitor
        self.higher_is_better = directions[self.name]
        self.kept: list[tuple[int, float]] = []
        self._limit, self._patience = settings.keep_best, settings.patience

    @property
    def epoch(self) -> int:
        """The best epoch so far, counted from 1; 0 before the first."""
        return self.kept[0][0] if self.kept else 0

    def update(self, epoch: int, row: Mapping[str, Any]) -> bool:
        """Tell whether an epoch is the best so far; without validation the last one always is."""
        self.kept.append((epoch, float(row.get(f"val/{self.name}", math.nan))))
        self.kept = sorted(self.kept, key=self._rank)[: self._limit]
        return self.epoch == epoch

    def is_exhausted(self, epoch: int) -> bool:
        """Tell whether ``training.patience`` epochs have gone without a better one."""
        return self._patience is not None and epoch - self.epoch >= self._patience

    def _rank(self, entry: tuple[int, float]) -> tuple[bool, float, int]:
        epoch, value = entry
        if math.isnan(value):
            return True, 0.0, -epoch
        return False, -value if self.higher_is_better else value, epoch

    def state(self) -> list[list[float]]:
        """Return what `restore` needs."""
        return [list(entry) for entry in self.kept]

    def restore(self, state: Sequence[Sequence[float]]) -> None:
        """Go on from a `state`."""
        self.kept = [(int(epoch), float(value)) for epoch, value in state]


def _check_names(model: MultiTaskModel, settings: TrainingConfig, directions: Mapping[str, bool]) -> None:
    problems = []
    if settings.monitor not in directions:
        problems.append(
            f"training.monitor: unknown metric '{settings.monitor}'.{did_you_mean(settings.monitor, directions)} "
            f"Available: {', '.join(directions)}"
        )
    for name in model.tasks if settings.monitor == "score" else ():
        main = f"{name}/{model.task(name).main_metric}"
        if directions.get(main) is not True:
            problems.append(
                f"training.monitor: 'score' is a mean of what is better when higher, and '{main}' is no such metric; "
                f"monitor another one. Available: {', '.join(directions)}"
            )
    known = {*model.tasks, "seg", "det"}  # the default weights name both, also where one head is null
    problems += [
        f"training.loss_weights.{name}: the model has no such task.{did_you_mean(name, known)}"
        for name in settings.loss_weights
        if name not in known
    ]
    if problems:
        raise ConfigError(problems)
