"""How many images fit a CUDA device."""

import copy
import logging
from collections.abc import Callable, Sequence

import torch

from mtvision.config import Config
from mtvision.data.loading.loader import build_loader, training_sizes
from mtvision.errors import ConfigError, TrainingError
from mtvision.model import MultiTaskModel
from mtvision.training import processes
from mtvision.training.device import build_accelerator, resolve_device
from mtvision.training.session import open_session
from mtvision.types import Sample

logger = logging.getLogger(__name__)


def with_batch_size(config: Config, model: MultiTaskModel, data: Sequence[Sample]) -> Config:
    """Return the config with a number for ``batch_size: auto``: the greatest power of two that trains on the device.

    Raises:
        ConfigError: if it is ``auto`` and the device is no CUDA device, or there are several processes.
        TrainingError: if not even one image fits.
    """
    if config.training.batch_size != "auto":
        return config
    if processes.launched() > 1:
        raise ConfigError(["training.batch_size: 'auto' is found by one process alone; give a number to several"])
    device = resolve_device(config.system.device)
    if device.type != "cuda":
        raise ConfigError(
            [f"training.batch_size: 'auto' measures the memory of a CUDA device, but the run's is '{device.type}'"]
        )
    size = largest_that_fits(lambda number: _train_once(config, model, data, number), limit=len(data))
    logger.info("training.batch_size: auto is %d images", size)
    return config.replace({"training.batch_size": size})


def largest_that_fits(attempt: Callable[[int], object], limit: int) -> int:
    """Return the greatest power of two, ``limit`` at most, with which ``attempt`` does not run out of memory.

    Example:
        >>> def attempt(size):
        ...     if size > 50:
        ...         raise torch.OutOfMemoryError
        >>> largest_that_fits(attempt, limit=1000)
        32

    Raises:
        TrainingError: if 1 is too many.
    """
    fits = 0
    size = 1
    while size <= limit:
        try:
            attempt(size)
        except torch.OutOfMemoryError:
            break
        fits, size = size, size * 2
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if fits == 0:
        raise TrainingError("not even two images fit the memory: choose a smaller data.image_size or model.backbone")
    return fits


def _train_once(config: Config, model: MultiTaskModel, data: Sequence[Sample], size: int) -> None:
    """Do two optimizer steps (the second has the optimizer's memory) with a copy of the model."""
    settings = config.replace({"training.batch_size": max(size, 2), "training.accumulate": 1, "data.num_workers": 0})
    sizes = training_sizes(config)
    if sizes:  # the largest of them must fit
        settings = settings.replace({"data.multi_scale": None, "data.image_size": list(max(sizes))})
    loader = build_loader(settings, data, training=True)
    with open_session(copy.deepcopy(model), settings, build_accelerator(settings)) as session:
        session.loop.network.train()
        for _ in session.loop.steps(0, iter(loader), 0, min(2, len(loader))):
            pass
