"""Verbs on data sets: check-data, stats."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtvision.cli.arguments import Quiet
from mtvision.cli.verbs import WRONG, one_sentence
from mtvision.errors import ConfigError

if TYPE_CHECKING:
    from mtvision.types import Sample

Root = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER|CONFIG.yaml", help="Folder of the data set, or a run's YAML file, whose data section counts."
    ),
]
DataSet = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Name, or YAML such as '{name: coco, images: photos}'; without it voc."),
]


def check_data(
    root: Root,
    dataset: DataSet = None,
    split: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Repeat it for several; without it train and val.")
    ] = None,
    duplicates: Annotated[bool, typer.Option(help="Look for images that occur twice, also across splits.")] = True,
    fix: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write or extend a list of the images to leave out.")
    ] = None,
    fix_kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="A kind of warning that the list has too, as duplicate-across-splits."),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all findings as JSON, by split.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings too.")] = False,
    quiet: Quiet = False,
) -> None:
    """Check every image and annotation of one or several splits; exit with 1 if something cannot be used.

    The exit code is 2 if the command is wrong or the data set cannot be opened at all. With --quiet each error is a
    line. Images that are in two splits are told of in the one named first. No file of the data set is touched.

    Example:
      mtvision check-data data/VOC2012 --split train --split val --fix exclude.txt
    """
    from mtvision.data.checking.check import check_splits
    from mtvision.data.checking.check_report import save_json, write_all_exclusions

    with one_sentence(code=WRONG):
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
    from mtvision.target_files import checked_target

    if kinds and fix is None:
        raise ConfigError("--fix-kind: give the list that it is for by --fix")
    if problem := kinds_problem(kinds):
        raise ConfigError(f"--fix-kind: {problem}")
    for option, path in (("--json", json), ("--fix", fix)):
        if path is not None:
            checked_target(path, option)
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


def stats(
    root: Root,
    dataset: DataSet = None,
    split: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Repeat it for several; without it train.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write stats.json and pictures there, by split.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Count what a data set has: classes, pixels, sizes of images and boxes, what occurs together.

    Example:
      mtvision stats data/VOC2012 --split train --split val --save data_statistics
      mtvision stats run.yaml
    """
    from mtvision.data.progress_bar import progress_bar
    from mtvision.data.statistics.stats import stats as count

    for name, samples in _splits(root, dataset, split or ["train"]).items():
        with progress_bar(f"counting {name}", len(samples), not quiet) as advance:
            found = count(samples, progress=lambda *_: advance())
        typer.echo(f"{name}: {found}\n")
        if save is not None:
            from mtvision.visualize import statistics

            typer.echo(f"written: {statistics(found, save / name)['stats'].parent}\n")
