"""Trackers by name, through accelerate: TensorBoard, Weights & Biases, MLflow and what else it knows."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtvision.config import Config
from mtvision.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from accelerate import Accelerator

_PROJECT = "mtvision"


def chosen_trackers(config: Config, run_dir: Path | None) -> list[str]:
    """Return the names of the trackers of a run: those that the config names, else TensorBoard where it is installed.

    A run without a folder has none unless they are named.

    Raises:
        ConfigError: if accelerate does not know one, or it is not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    names = config.system.trackers
    if names is None:
        return ["tensorboard"] if run_dir is not None and find_spec("tensorboard") else []
    known = sorted(LOGGER_TYPE_TO_CLASS)
    available = {str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers()}
    problems = []
    for name in names:
        if name not in known:
            problems.append(
                f"system.trackers: unknown tracker '{name}'.{did_you_mean(name, known)} Available: {', '.join(known)}"
            )
        elif name not in available:
            problems.append(f"system.trackers: '{name}' is not installed: install it, or leave it out")
        elif LOGGER_TYPE_TO_CLASS[name].requires_logging_directory and run_dir is None:
            problems.append(f"system.trackers: '{name}' writes into the run's folder: give the run one")
    if problems:
        raise ConfigError(problems)
    return list(names)


def start_trackers(accelerator: "Accelerator", config: Config, step: int) -> None:
    """Begin a run in all trackers, with the config as its hyperparameters.

    Args:
        accelerator: with the names of the trackers.
        config: of the run.
        step: optimizer steps that the run has done. TensorBoard forgets later ones: a run that was cut off after its
            last checkpoint does them again.
    """
    if accelerator.log_with:
        settings = {key: _plain(value) for key, value in _flat(config.dump()).items()}
        accelerator.init_trackers(_PROJECT, config=settings, init_kwargs={"tensorboard": {"purge_step": step + 1}})


def stop_trackers(accelerator: "Accelerator") -> None:
    """End the run in all trackers."""
    # not by accelerate's end_training, which also parts the processes
    for tracker in accelerator.trackers:
        tracker.finish()


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)
