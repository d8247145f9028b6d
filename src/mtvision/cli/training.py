"""``mtvision train``."""

from pathlib import Path
from typing import Annotated

import typer

from mtvision.cli.arguments import ConfigAndSettings, DataRoot, Quiet, read_config


def train(
    config: ConfigAndSettings = None,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The run's folder; without it runs/<date and time>.")
    ] = None,
    data_root: DataRoot = None,
    quiet: Quiet = False,
) -> None:
    """Train a network, and keep all that belongs to the run in one folder.

    The same command on an unfinished run goes on from its last checkpoint, and so does mtvision train RUN. Ctrl-C saves
    first. All keys: mtvision init-config.

    Example:
      mtvision train run.yaml training.lr=0.001 --run-dir runs/a
      mtvision train model.backbone=resnet34 --data-root data/VOC2012
      mtvision train runs/a
    """
    from mtvision.training.run import train as train_run

    given = read_config(config, data_root)
    train_run(given.config, run_dir or given.folder, progress=not quiet)
