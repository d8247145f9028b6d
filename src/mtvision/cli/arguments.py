"""Arguments and options that several verbs have, and what becomes of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from mtvision.cli.completion import configs_and_settings, run_folders, settings
from mtvision.errors import ConfigError

if TYPE_CHECKING:
    from mtvision.config import Config
    from mtvision.data.base import SampleDataset
    from mtvision.model import MultiTaskModel

Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="Folder of a run, of one checkpoint in it, or of save_pretrained.",
        autocompletion=run_folders,
    ),
]
ConfigAndSettings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CONFIG.yaml|KEY=VALUE",
        help="A config, without one the defaults, and settings that override it, such as training.lr=0.01.",
        autocompletion=configs_and_settings,
    ),
]
DataSettings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Where the images are, in place of what the run's config says, such as data.exclude=bad.txt.",
        autocompletion=settings,
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Folder of the data set, in place of data.dataset_root of the config."),
]
Split = Annotated[str, typer.Option(metavar="NAME", help="Split of the data set: train, val or test.")]
Which = Annotated[str, typer.Option(metavar="best|last", help="Which checkpoint of the run.")]
DeviceName = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto (CUDA, then MPS, then CPU), cpu, mps, cuda or cuda:1.")
]
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Images that go through the network together.")]
Protocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="Further numbers: standard or boundary of masks; coco, voc, voc2007 or lrp of boxes. Repeatable.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]

_WHERE_IMAGES_ARE = ("data.dataset", "data.dataset_root", "data.exclude", "data.on_error", "data.num_workers")


class Given(NamedTuple):
    """What `read_config` read.

    Attributes:
        config: with its settings.
        folder: of the run whose config it is; None if a file was given, or none.
    """

    config: "Config"
    folder: Path | None


def read_config(arguments: Sequence[str] | None, data_root: Path | None = None) -> Given:
    """Return the config that words of the command line mean.

    Args:
        arguments: the path of a YAML file, or of a folder with ``config.yaml``, and settings ``key=value``; a word is
            a setting if it has a ``=`` and there is no such file.
        data_root: takes the place of ``data.dataset_root``.

    Raises:
        ConfigError: if there are two files, or for any problem of file and settings.
    """
    from mtvision.config import Config

    words = arguments or ()
    files = [word for word in words if "=" not in word or Path(word).exists()]
    overrides = [word for word in words if word not in files]
    if len(files) > 1:
        raise ConfigError(f"expected one config and settings such as training.lr=0.01, got {' and '.join(files)}")
    path = Path(files[0]).expanduser() if files else None
    folder = path if path is not None and path.is_dir() else None
    if path is None:
        config = Config().override(overrides)
    else:
        config = Config.load(path / "config.yaml" if folder else path, overrides)
    return Given(_at(config, data_root), folder)


def load_run(run: Path, which: str, device: str) -> "MultiTaskModel":
    """Return the model of a run on a device.

    Raises:
        ConfigError: if the device is none, or is not there.
        CheckpointError: if there is no such checkpoint, or it cannot be loaded.
    """
    from mtvision.config import Config
    from mtvision.training.checkpoint import load_model
    from mtvision.training.device import resolve_device

    place = resolve_device(Config().replace({"system.device": device}).system.device)
    return load_model(run, which).to(place)


def run_config(run: Path, which: str, overrides: Sequence[str] | None, data_root: Path | None) -> "Config":
    """Return the config of a run that was trained, with settings that say where its images are.

    Raises:
        ConfigError: for any other setting, which would change nothing.
        CheckpointError: if there is no such checkpoint.
    """
    from mtvision.config import Config
    from mtvision.training.checkpoint import find_saved

    given = list(overrides or ())
    config = Config(**find_saved(run, which).description.config).override(given)
    for key in (text.partition("=")[0].strip() for text in given):
        if key not in _WHERE_IMAGES_ARE and not key.startswith("data.dataset."):
            raise ConfigError(
                f"{key}: changes nothing in a run that was trained; here act {', '.join(_WHERE_IMAGES_ARE)}"
            )
    return _at(config, data_root)


def run_data(config: "Config", split: str) -> "SampleDataset":
    """Return a split of the data set of a config."""
    from mtvision.data.loading.loader import build_dataset

    return build_dataset(config, split)


def _at(config: "Config", data_root: Path | None) -> "Config":
    return config if data_root is None else config.replace({"data.dataset_root": str(data_root)})
