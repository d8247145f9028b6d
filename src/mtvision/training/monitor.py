"""Which epoch is the best."""

import math
from collections.abc import Mapping
from typing import Any

from mtvision.config import TrainingConfig
from mtvision.errors import ConfigError, did_you_mean
from mtvision.model import MultiTaskModel
from mtvision.training.evaluation import metric_directions


class Monitor:
    """Keeps the best epoch by ``training.monitor``.

    Args:
        model: whose metrics can be monitored; their own ``higher_is_better`` tells the direction.
        settings: ``monitor`` and ``loss_weights`` must name something of this model.

    Raises:
        ConfigError: if one of them does not; the nearest name is suggested.

    Attributes:
        epoch: the best so far, counted from 1; 0 before the first.
        value: of the monitored metric then; NaN where nothing was validated.
    """

    def __init__(self, model: MultiTaskModel, settings: TrainingConfig) -> None:
        directions = {"score": True, "loss": False, **metric_directions(model)}
        _check_names(model, settings, directions)
        self.name = settings.monitor
        self.higher_is_better = directions[self.name]
        self.epoch, self.value = 0, math.nan

    def update(self, epoch: int, row: Mapping[str, Any]) -> bool:
        """Tell whether an epoch is the best so far; without validation the last one always is."""
        value = row.get(f"val/{self.name}", math.nan)
        first = self.epoch == 0 or math.isnan(self.value)
        better = value > self.value if self.higher_is_better else value < self.value
        if first or better:
            self.epoch, self.value = epoch, value
        return first or better

    def state(self) -> dict[str, float]:
        """Return what `restore` needs."""
        return {"epoch": self.epoch, "value": self.value}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a `state`."""
        self.epoch, self.value = int(state["epoch"]), float(state["value"])


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
