"""The command line: a thin door, each verb one public function."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtvision.errors import ConfigError, MtvisionError

if TYPE_CHECKING:
    from mtvision.types import Sample

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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files have characters that a terminal lacks


@study_app.command()
def plan(definition: Definition, probe: Annotated[bool, typer.Option(help="Measure what a run costs.")] = True) -> None:
    """Show the runs, their balance, what cannot be told apart, and what all of it costs.

    Example: mtvision study plan study.yaml
    """
    from mtvision.study.study import Study

    with _one_sentence(extra="study"):
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

    with _one_sentence(extra="study"):
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

    with _one_sentence(extra="study"):
        Study.open(folder, storage=storage, name=name).work(most=most, progress=not quiet)


@study_app.command()
def report(folder: Folder, storage: Url = None, name: Name = None) -> None:
    """Analyze what is there, and write the report.

    Example: mtvision study report studies/a
    """
    from mtvision.study.study import Study

    with _one_sentence(extra="study"):
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

    with _one_sentence(extra="study"):
        study = Study.open(folder, storage=storage, name=name)
        typer.echo(study.confirm(top=top, seeds=seeds, split=split, workers=workers).to_string(index=False))


@app.command("check-data")
def check_data(
    root: Annotated[
        Path, typer.Argument(help="Folder of the data set, or a run's YAML file, whose data section counts.")
    ],
    dataset: Annotated[
        str | None, typer.Option(help="Name, or YAML such as '{name: coco, images: photos}'; without it voc.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Repeat it for several; without it train and val.")] = None,
    duplicates: Annotated[bool, typer.Option(help="Look for images that occur twice, also across splits.")] = True,
    fix: Annotated[Path | None, typer.Option(help="Write or extend a list of the images to leave out.")] = None,
    fix_kind: Annotated[
        list[str] | None, typer.Option(help="A kind of warning that the list has too, as duplicate-across-splits.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all findings as JSON, by split.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings too.")] = False,
    quiet: Quiet = False,
) -> None:
    """Check every image and annotation of one or several splits; exit with 1 if something cannot be used.

    The exit code is 2 if the command is wrong or the data set cannot be opened at all. With --quiet each error is a
    line. Images that are in two splits are told of in the one named first. No file of the data set is touched.

    Example: mtvision check-data data/VOC2012 --split train --split val --fix exclude.txt
    """
    from mtvision.data.checking.check import check_splits
    from mtvision.data.checking.check_report import save_json, write_all_exclusions

    with _one_sentence(code=2):
        _check_targets(json, fix, fix_kind or ())
        reports = check_splits(_splits(root, dataset, split), duplicates=duplicates, progress=not quiet)
        for name, found in reports.items():
            for text in found.errors if quiet else [f"{found}\n"]:
                typer.echo(f"{name}: {text}")
        if json is not None:
            save_json({name: found.as_dict() for name, found in reports.items()}, json)
        if fix is not None:
            typer.echo(write_all_exclusions(reports, fix, kinds=fix_kind or ()), err=quiet)
    if any(found.errors or (strict and found.warnings) for found in reports.values()):
        raise typer.Exit(1)


def _check_targets(json: Path | None, fix: Path | None, kinds: Sequence[str]) -> None:
    """Complain of options before all images are read, not after."""
    from mtvision.data.checking.check_report import kinds_problem
    from mtvision.data.checking.exclusion import read_exclusions

    if kinds and fix is None:
        raise ConfigError("--fix-kind: give the list that it is for by --fix")
    if problem := kinds_problem(kinds):
        raise ConfigError(f"--fix-kind: {problem}")
    for option, path in (("--json", json), ("--fix", fix)):
        if path is not None and path.is_dir():
            raise ConfigError(f"{option}: {path} is a folder; expected the path of a file")
        try:
            (path or Path()).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{option}: {path} cannot be written ({error.strerror})") from None
    if fix is not None and fix.exists():
        read_exclusions(fix)


def _splits(root: Path, dataset: str | None, names: list[str] | None) -> dict[str, "Sequence[Sample]"]:
    """Open the splits of a data set that is given by its folder, or by a run's config."""
    from mtvision.config import Config
    from mtvision.config_yaml import parse_yaml
    from mtvision.data.loading.loader import build_dataset

    if root.is_file() and dataset is not None:
        raise ConfigError(f"--dataset: {root} is a config, which names the data set already")
    if root.is_file():
        config = Config.load(root)
    else:
        config = Config(data={"dataset": parse_yaml(dataset or "voc"), "dataset_root": str(root)})
    return {name: build_dataset(config, name) for name in dict.fromkeys(names or ("train", "val"))}


@contextmanager
def _one_sentence(*, code: int = 1, extra: str | None = None) -> Iterator[None]:
    """End with the sentence of an error that a person can act on.

    Args:
        code: to exit with; 2 for a wrong config, in any case.
        extra: of the package, which a missing module belongs to.
    """
    try:
        yield
    except MtvisionError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, ConfigError) else code) from None
    except ModuleNotFoundError as error:
        hint = f"; studies need pip install 'mtvision[{extra}]'" if extra else ""
        typer.echo(f"error: {error}{hint}", err=True)
        raise typer.Exit(code) from None
    except KeyboardInterrupt as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(130) from None


if __name__ == "__main__":
    app()
