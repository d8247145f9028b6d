"""Which device a config means, and the accelerator for it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mtvision.config import Config
from mtvision.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from accelerate import Accelerator

_SUPPORTED = ("NO", "MULTI_CPU", "MULTI_GPU")
_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def uses_channels_last(config: Config, device: torch.device) -> bool:
    """Tell whether ``system.channels_last`` means the memory format NHWC on a device; sharding does not go with it."""
    system = config.system
    if system.channels_last is None:
        return device.type == "cuda" and system.sharding == "none"
    return system.channels_last


def resolve_device(name: str) -> torch.device:
    """Return the device that ``system.device`` means; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: if the device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[device.type] or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(
            [f"system.device: '{name}' is not available on this machine; use 'auto' to take what there is"]
        )
    return device


def build_accelerator(config: Config, trackers: Sequence[str] = (), folder: Path | None = None) -> "Accelerator":
    """Return the accelerator for a config's device and precision.

    Accelerate keeps one global state a process; it is reset here, so that runs with different settings can follow each
    other in one process.

    Args:
        config: its ``system`` section.
        trackers: names of accelerate's trackers.
        folder: of the run, in which TensorBoard's has its own.

    Raises:
        ConfigError: if the device is not there or cannot compute in the precision.
        TrainingError: if a launcher asks for a way of sharing the model that is not supported.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import ProjectConfiguration

    _refuse_other_sharding()
    device = resolve_device(config.system.device)
    if config.system.precision == "fp16" and device.type == "cpu":
        raise ConfigError(["system.precision: 'fp16' needs a GPU; use 'bf16' or 'fp32' on the CPU"])
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=_PRECISION[config.system.precision],
        log_with=list(trackers) or None,
        project_config=ProjectConfiguration(project_dir=folder, logging_dir=folder and str(folder / "tensorboard")),
        kwargs_handlers=_data_parallel(config),
    )
    if accelerator.distributed_type.value not in _SUPPORTED:
        raise TrainingError(
            f"training with {accelerator.distributed_type.value} is not supported; start the processes with torchrun "
            "or accelerate launch; system.sharding=full lets each hold a share of the model"
        )
    return accelerator


def _refuse_other_sharding() -> None:
    """Refuse a launcher's wish for accelerate's own sharding: whether a model is shared stands in the config alone."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true", "yes", "on", "y", "t"):
        raise TrainingError(
            "accelerate launch asks for FSDP, but the config decides: set system.sharding=full and start it without "
            "--use_fsdp (or with a config file of accelerate's without FSDP)"
        )


def _data_parallel(config: Config) -> list[Any]:
    """Let data parallel training pass over a backbone that is frozen for a while."""
    from accelerate.utils import DistributedDataParallelKwargs

    return [DistributedDataParallelKwargs(find_unused_parameters=config.training.freeze_backbone_epochs > 0)]


@contextmanager
def prepared(model: nn.Module, accelerator: "Accelerator", *, training: bool = True) -> Iterator[Any]:
    """Yield the model as accelerate wraps it, and give it back as it was: autocast would stay in ``model.forward``."""
    try:
        yield accelerator.prepare_model(model, evaluation_mode=not training)
    finally:
        accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        model.__dict__.pop("forward", None)


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Let torch use deterministic algorithms only, where ``enabled``; the setting before comes back."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(enabled or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
