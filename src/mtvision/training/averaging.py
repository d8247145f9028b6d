"""An exponential moving average of the weights, by timm."""

from typing import Any

from mtvision.model import MultiTaskModel


class Averaging:
    """Keeps a moving average of a model's weights (Polyak and Juditsky 1992, SIAM J. Control Optim. 30).

    The decay grows with the steps, as ``1 - step^(-2/3)`` up to ``decay``: an average over more steps than there were
    would be that of the first weights.

    Args:
        model: on its device, before anything wraps its forward.
        decay: of the average at each optimizer step, in [0, 1).
        one_by_one: whether to average tensor by tensor, as a model must whose tensors are partly shared by processes.

    Attributes:
        model: the averaged model, like the one given.
    """

    def __init__(self, model: MultiTaskModel, decay: float, *, one_by_one: bool = False) -> None:
        from timm.utils.model_ema import ModelEmaV3

        self._average: Any = ModelEmaV3(model, decay=decay, use_warmup=True, foreach=not one_by_one)
        self.model: MultiTaskModel = self._average.module

    def update(self, model: MultiTaskModel, step: int) -> None:
        """Add the weights after optimizer step number ``step``, counted from 1."""
        self._average.update(model, step=step)
