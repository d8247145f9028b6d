"""Verbs that score runs which were trained: evaluate, analyze, compare."""

from pathlib import Path
from typing import Annotated

import typer

from mtvision.cli.arguments import (
    BatchSize,
    DataRoot,
    DataSettings,
    DeviceName,
    Protocols,
    Run,
    Split,
    Which,
    load_run,
    run_config,
    run_data,
)
from mtvision.cli.completion import run_folders
from mtvision.errors import ConfigError


def evaluate(
    run: Run,
    settings: DataSettings = None,
    split: Split = "val",
    protocol: Protocols = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write metrics.json and per_class_<task>.csv there.")
    ] = None,
    which: Which = "best",
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    data_root: DataRoot = None,
) -> None:
    """Score a run on annotated images.

    Example:
      mtvision evaluate runs/a
      mtvision evaluate runs/a --split test --protocol coco --protocol boundary --save runs/a/test
    """
    from mtvision.data.loading.workers import worker_count
    from mtvision.training.evaluate import evaluate as evaluate_run

    config = run_config(run, which, settings, data_root)
    result = evaluate_run(
        load_run(run, which, device),
        run_data(config, split),
        protocol=protocol,
        batch_size=batch_size,
        num_workers=worker_count(config.replace({"system.device": device})),
        on_error=config.data.on_error,
    )
    typer.echo(str(result))
    for sentence in result.skipped:
        typer.echo(f"skipped: {sentence}", err=True)
    if save is not None:
        typer.echo(f"written: {result.save(save)}")


def analyze(
    run: Run,
    settings: DataSettings = None,
    split: Split = "val",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the report; without it RUN/report, of a run.")
    ] = None,
    which: Which = "best",
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    data_root: DataRoot = None,
) -> None:
    """Look into what a run gets wrong, and write report.html with tables and pictures.

    Example:
      mtvision analyze runs/a --out runs/a/report
    """
    from mtvision.analysis.analyze import analyze as analyze_run
    from mtvision.analysis.run_report import write_run_report
    from mtvision.data.loading.workers import worker_count
    from mtvision.training.history import History

    if out is None and not (run / "checkpoints").is_dir():
        raise ConfigError(f"--out: {run} is no run but the weights of one; name the folder of the report")
    config = run_config(run, which, settings, data_root)
    data, history = run_data(config, split), run / "history.jsonl"
    analysis = analyze_run(
        load_run(run, which, device),
        data,
        batch_size=batch_size,
        num_workers=worker_count(config.replace({"system.device": device})),
        on_error=config.data.on_error,
    )
    files = write_run_report(
        analysis,
        data,
        out or run / "report",
        title=f"{run.resolve().name}: what it gets wrong on {split}",
        config=config,
        history=History.read(history) if history.is_file() else None,
    )
    typer.echo(str(analysis.result))
    typer.echo(f"written: {files.html}")


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Two or more: folders of runs, of checkpoints or of save_pretrained.",
            autocompletion=run_folders,
        ),
    ],
    split: Split = "val",
    name: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="What to call a run; repeat it, one for each.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, metavar="N", help="Resamples behind each interval.")] = 1000,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the tables, and pictures of what differs most.")
    ] = None,
    batch_size: BatchSize = 8,
    data_root: DataRoot = None,
) -> None:
    """Compare runs on the same images: what differs, whether it is shown, and where.

    All differences are to the first run. The networks run on the CPU.

    Example:
      mtvision compare runs/a runs/b --save comparisons/a_b
      mtvision compare runs/a runs/b --name small --name large --split test
    """
    from mtvision.analysis.compare import compare as compare_runs

    if len(runs) < 2:
        raise ConfigError(f"expected the folders of two or more runs, got {runs[0]}")
    data = None if data_root is None else run_data(run_config(runs[0], "best", None, data_root), split)
    found = compare_runs(runs, data, split=split, names=name or None, resamples=resamples, batch_size=batch_size)
    typer.echo(str(found))
    if save is not None:
        typer.echo(f"\nwritten: {found.save(save)}")
