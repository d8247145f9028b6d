"""The command line: a thin door, each verb one public function."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mtvision.errors import ConfigError, MtvisionError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="One network that segments and detects.")
study_app = typer.Typer(no_args_is_help=True, help="Compare choices over many runs, so that the conclusions hold.")
app.add_typer(study_app, name="study")

Definition = Annotated[Path, typer.Argument(help="YAML file: base, factors, design, seeds, objective, budget.")]
Folder = Annotated[Path, typer.Argument(help="Folder of the study: its storage, runs/ and report/.")]
Url = Annotated[
    str | None,
    typer.Option("--storage", envvar="MTVISION_STORAGE", help="Database, postgresql://user@host/db; else a file."),
]
Name = Annotated[str | None, typer.Option(help="Name of the study in the database; else the folder's.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


@app.callback()
def _main() -> None:
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)


@study_app.command()
def plan(definition: Definition, probe: Annotated[bool, typer.Option(help="Measure what a run costs.")] = True) -> None:
    """Show the runs, their balance, what cannot be told apart, and what all of it costs.

    Example: mtvision study plan study.yaml
    """
    from mtvision.study.study import Study

    with _one_sentence():
        typer.echo(str(Study.load(definition).plan(probe=probe)))


@study_app.command()
def run(
    definition: Definition,
    folder: Folder,
    storage: Url = None,
    name: Name = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    retry_failed: Annotated[bool, typer.Option(help="Do failed runs once more.")] = False,
    quiet: Quiet = False,
) -> None:
    """Do all runs of a study; the same command goes on with an unfinished one.

    Example: mtvision study run study.yaml studies/a --workers 2
    """
    from mtvision.study.study import Study

    with _one_sentence():
        study = Study.load(definition)
        study.run(folder, storage=storage, name=name, workers=workers, retry_failed=retry_failed, progress=not quiet)


@study_app.command()
def work(
    folder: Folder,
    storage: Url = None,
    name: Name = None,
    most: Annotated[int | None, typer.Option(min=1, help="Runs to do at most.")] = None,
    quiet: Quiet = False,
) -> None:
    """Take runs from a study that was begun, here or on another machine, until nothing is left.

    Example: mtvision study work studies/a --storage postgresql://me@server/studies
    """
    from mtvision.study.study import Study

    with _one_sentence():
        Study.open(folder, storage=storage, name=name).work(most=most, progress=not quiet)


@study_app.command()
def report(folder: Folder, storage: Url = None, name: Name = None) -> None:
    """Analyze what is there, and write the report.

    Example: mtvision study report studies/a
    """
    from mtvision.study.study import Study

    with _one_sentence():
        files = Study.open(folder, storage=storage, name=name).report()
        typer.echo(f"{files.html}")


@study_app.command()
def confirm(
    folder: Folder,
    storage: Url = None,
    name: Name = None,
    top: Annotated[int, typer.Option(min=1, help="Best configurations to run again.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds for each.")] = 5,
    split: Annotated[str, typer.Option(help="Split to score that no choice was made on.")] = "test",
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
) -> None:
    """Run the best few and the recommended configuration again, with fresh seeds, and score a split kept for this.

    Example: mtvision study confirm studies/a --top 3 --seeds 5
    """
    from mtvision.study.study import Study

    with _one_sentence():
        study = Study.open(folder, storage=storage, name=name)
        typer.echo(study.confirm(top=top, seeds=seeds, split=split, workers=workers).to_string(index=False))


@contextmanager
def _one_sentence() -> Iterator[None]:
    """End with the sentence of an error that a person can act on: exit code 2 for a wrong config, else 1."""
    try:
        yield
    except MtvisionError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None
    except ModuleNotFoundError as error:
        typer.echo(f"error: {error}; studies need pip install 'mtvision[study]'", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(130) from None


if __name__ == "__main__":
    app()
