"""Verbs for the beginning: init-config, doctor."""

from pathlib import Path
from typing import Annotated

import typer


def init_config(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="Of the config.")] = Path("config.yaml"),
    full: Annotated[bool, typer.Option("--full/--minimal", help="All keys, or those that most runs choose.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Write a config in which each key stands with its default, what it means, and what it may be.

    Beside it stands its JSON Schema, by which editors complete and check it.

    Example:
      mtvision init-config run.yaml --minimal
    """
    from mtvision.config_template import init_config as write_config

    path = write_config(file, full=full, overwrite=overwrite)
    typer.echo(f"written: {path}, and its schema beside it. Next: mtvision train {path}")


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Tell it as JSON.")] = False,
) -> None:
    """Tell versions, devices, memory, and what is missing; exit with 1 if mtvision cannot work here.

    It imports all packages, which takes some seconds.

    Example:
      mtvision doctor
      mtvision doctor --json
    """
    from mtvision.diagnosis import doctor as look

    found = look()
    typer.echo(found.as_json() if json else str(found))
    if not found.usable:
        raise typer.Exit(1)
