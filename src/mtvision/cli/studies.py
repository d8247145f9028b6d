"""``mtvision study``: plan, run, work, report, confirm."""

from pathlib import Path
from typing import Annotated

import typer

from mtvision.cli.arguments import Quiet
from mtvision.cli.verbs import add_verb

Definition = Annotated[
    Path, typer.Argument(metavar="STUDY.yaml", help="YAML file: base, factors, design, seeds, objective, budget.")
]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the study: its storage, runs/ and report/.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--storage", metavar="URL", envvar="MTVISION_STORAGE", help="Database, postgresql://user@host/db; else a file."
    ),
]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="Name of the study in the database; else the folder's.")]


def plan(definition: Definition, probe: Annotated[bool, typer.Option(help="Measure what a run costs.")] = True) -> None:
    """Show the runs, their balance, what cannot be told apart, and what all of it costs.

    Example:
      mtvision study plan study.yaml
    """
    from mtvision.study.study import Study

    typer.echo(str(Study.load(definition).plan(probe=probe)))


def run(
    definition: Definition,
    folder: Folder,
    storage: Url = None,
    name: Name = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes on this machine.")] = 1,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Do failed runs once more.")] = False,
    quiet: Quiet = False,
) -> None:
    """Do all runs of a study; the same command goes on with an unfinished one.

    Example:
      mtvision study run study.yaml studies/a --workers 2
    """
    from mtvision.study.study import Study

    study = Study.load(definition)
    study.run(folder, storage=storage, name=name, workers=workers, retry_failed=retry_failed, progress=not quiet)


def work(
    folder: Folder,
    storage: Url = None,
    name: Name = None,
    most: Annotated[int | None, typer.Option(min=1, metavar="N", help="Runs to do at most.")] = None,
    quiet: Quiet = False,
) -> None:
    """Take runs from a study that was begun, here or on another machine, until nothing is left.

    Example:
      mtvision study work studies/a --storage postgresql://me@server/studies
    """
    from mtvision.study.study import Study

    Study.open(folder, storage=storage, name=name).work(most=most, progress=not quiet)


def report(folder: Folder, storage: Url = None, name: Name = None) -> None:
    """Analyze what is there, and write the report.

    Example:
      mtvision study report studies/a
    """
    from mtvision.study.study import Study

    files = Study.open(folder, storage=storage, name=name).report()
    typer.echo(f"{files.html}")


def confirm(
    folder: Folder,
    storage: Url = None,
    name: Name = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Best configurations to run again.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Fresh seeds for each.")] = 5,
    split: Annotated[str, typer.Option(metavar="NAME", help="Split to score that no choice was made on.")] = "test",
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes on this machine.")] = 1,
) -> None:
    """Run the best few and the recommended configuration again, with fresh seeds, and score a split kept for this.

    Example:
      mtvision study confirm studies/a --top 3 --seeds 5
    """
    from mtvision.study.study import Study

    study = Study.open(folder, storage=storage, name=name)
    typer.echo(study.confirm(top=top, seeds=seeds, split=split, workers=workers).to_string(index=False))


app = typer.Typer(
    help="Compare choices over many runs, so that the conclusions hold.", no_args_is_help=True, rich_markup_mode=None
)
for verb in (plan, run, work, report, confirm):
    add_verb(app, verb)
