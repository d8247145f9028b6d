"""Verbs that tell what there is: list, describe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mtvision.cli.arguments import read_config
from mtvision.cli.completion import part_names, roles, roles_and_runs
from mtvision.errors import ConfigError

_SHOWN = 6  # names of a role


def list_parts(
    role: Annotated[
        str | None,
        typer.Argument(
            metavar="ROLE", help="Such as segmentation_heads, or the key that chooses one.", autocompletion=roles
        ),
    ] = None,
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Such as 'resnet*', in quotes.", autocompletion=part_names)
    ] = "*",
) -> None:
    """List the parts that a config can choose: all roles, or the names of one role.

    Example:
      mtvision list
      mtvision list segmentation_heads
      mtvision list backbones 'resnet*'
    """
    from mtvision.components import list_components

    if role is None:
        typer.echo(_all_roles())
        return
    names = list_components(role, pattern)
    if not names:
        raise ConfigError(f"{role}: no name matches '{pattern}'; a pattern may have *, ? and [...]")
    typer.echo("\n".join(names))


def _all_roles() -> str:
    from mtvision.components import component_roles
    from mtvision.text_table import text_table

    rows = [("role", "chosen by", "names")]
    for role in component_roles():
        names = role.registry.own_names()
        more = ["..."] if len(names) > _SHOWN or role.registry.is_open else []
        rows.append((role.name, ", ".join(role.keys), ", ".join([*names[:_SHOWN], *more])))
    return text_table(rows, left=3)


def describe(
    what: Annotated[
        str,
        typer.Argument(metavar="ROLE|RUN|CONFIG.yaml", help="What it is about.", autocompletion=roles_and_runs),
    ],
    rest: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|KEY=VALUE",
            help="Of a role, the part; of a config, settings that override it.",
            autocompletion=part_names,
        ),
    ] = None,
) -> None:
    """Tell what a part is and what its options take, or what a network consists of.

    Example:
      mtvision describe segmentation_losses focal
      mtvision describe runs/a
      mtvision describe run.yaml model.backbone=resnet50
    """
    from mtvision.components import describe_component
    from mtvision.factory import build_model

    words, path = rest or [], Path(what).expanduser()
    if len(words) == 1 and "=" not in words[0]:
        typer.echo(str(describe_component(what, words[0])))
    elif path.is_dir():
        typer.echo(_run_text(path, words))
    elif path.exists():
        typer.echo(str(build_model(read_config([what, *words]).config).describe()))
    else:
        raise ConfigError(f"{what}: there is no such run or config; of a role give a name too, as mtvision list has it")


def _run_text(run: Path, settings: Sequence[str]) -> str:
    from mtvision.training.checkpoint import find_saved, load_model
    from mtvision.training.checkpoint_description import Description

    if settings:
        raise ConfigError(f"{settings[0]}: changes nothing in a run that was trained")
    found, description = find_saved(run)
    epoch = f"epoch {description.epoch}: " if isinstance(description, Description) else ""
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in description.metrics.items())
    return f"{found}: {epoch}{numbers or 'not scored'}\n\n{load_model(found).describe()}"
