"""``mtvision predict``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, cast

import typer

from mtvision.cli.arguments import BatchSize, DeviceName, Quiet, Run, Which, load_run
from mtvision.errors import ConfigError

if TYPE_CHECKING:
    from mtvision.inference.predictor import Predictor
    from mtvision.tasks.box_fusion import Fusion

Sources = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...|FOLDER|FILM", help="Images, a folder of them, or one film.")
]
Out = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Where results are written; of a film also the path of its file.")
]
Threshold = Annotated[
    float | None, typer.Option(min=0, max=1, metavar="X", help="Leave out boxes that score below it; without it 0.3.")
]
Flip = Annotated[bool, typer.Option("--flip", help="Show each image mirrored too, and merge both.")]
Scales = Annotated[
    list[float] | None,
    typer.Option("--scale", metavar="X", help="Size of the network's input, relative to the run's. Repeatable."),
]
Window = Annotated[
    tuple[int, int] | None, typer.Option(metavar="HEIGHT WIDTH", help="Show each image in windows of so many pixels.")
]
BoxFusion = Annotated[
    str, typer.Option("--fusion", metavar="nms|weighted_boxes", help="How boxes of several views are merged.")
]
Every = Annotated[int, typer.Option(min=1, metavar="N", help="Of a film: predict the first of so many frames.")]
Recursive = Annotated[bool, typer.Option("--recursive", help="Of a folder: images in the folders within it too.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]


def predict(
    run: Run,
    sources: Sources,
    out: Out = Path("predictions"),
    score_threshold: Threshold = None,
    flip: Flip = False,
    scales: Scales = None,
    window: Window = None,
    fusion: BoxFusion = "nms",
    every: Every = 1,
    recursive: Recursive = False,
    skip_bad: SkipBad = False,
    overwrite: Overwrite = False,
    which: Which = "best",
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    quiet: Quiet = False,
) -> None:
    """Segment and detect in images or in a film; write pictures, masks and COCO's results.

    Example:
      mtvision predict runs/a photos --out predictions
      mtvision predict runs/a street.jpg yard.jpg --score-threshold 0.5 --flip
      mtvision predict runs/a walk.mp4 --out walk_predicted.mp4 --every 2
    """
    from mtvision.inference.predictor import Predictor

    film = _film(sources)
    _check_options(sources, film, every=every, recursive=recursive, skip_bad=skip_bad)
    model, views = load_run(run, which, device), tuple(scales or (1.0,))
    kind = cast("Fusion", fusion)  # the predictor checks it
    predictor = Predictor(model, flip=flip, scales=views, window=window, fusion=kind, batch_size=batch_size)
    how = _How(score_threshold, overwrite, progress=not quiet)
    if film is not None:
        said = _predict_film(predictor, film, out, every, how)
    else:
        said = _predict_images(predictor, sources, out, recursive, skip_bad, how)
    if not quiet:
        typer.echo(said)


class _How(NamedTuple):
    """What images and films have in common."""

    score_threshold: float | None
    overwrite: bool
    progress: bool


def _predict_film(predictor: "Predictor", film: Path, out: Path, every: int, how: _How) -> str:
    from mtvision.inference.video import predict_video

    target = out if out.suffix else out / f"{film.stem}.mp4"
    target.parent.mkdir(parents=True, exist_ok=True)
    told = predict_video(predictor, film, target, every=every, **how._asdict())
    return f"{told.num_predicted} of {told.num_frames} frames predicted: {told.path}"


def _predict_images(
    predictor: "Predictor", sources: Sequence[Path], out: Path, recursive: bool, skip_bad: bool, how: _How
) -> str:
    from mtvision.inference.folder import predict_folder

    images = sources[0] if sources[0].is_dir() else sources
    on_error: Literal["raise", "skip"] = "skip" if skip_bad else "raise"
    told = predict_folder(predictor, images, out, recursive=recursive, on_error=on_error, **how._asdict())
    return f"{told.num_images} images predicted, {len(told.skipped)} skipped: {told.folder}"


def _film(sources: Sequence[Path]) -> Path | None:
    """Return the film that is meant, None where images are.

    Raises:
        ConfigError: if it, or a folder, is not the only source.
    """
    from mtvision.data.readers.file_set import IMAGE_SUFFIXES

    films = [source for source in sources if not source.is_dir() and source.suffix.lower() not in IMAGE_SUFFIXES]
    for alone in (*films, *(source for source in sources if source.is_dir())):
        if len(sources) > 1:
            raise ConfigError(f"{alone}: is no image; give images, or one folder, or one film")
    return films[0] if films else None


def _check_options(sources: Sequence[Path], film: Path | None, *, every: int, recursive: bool, skip_bad: bool) -> None:
    """Refuse options that would not act.

    Raises:
        ConfigError: naming the option.
    """
    if every > 1 and film is None:
        raise ConfigError("--every: counts the frames of a film, and here are images")
    if recursive and not sources[0].is_dir():
        raise ConfigError(f"--recursive: looks into folders, but {sources[0]} is none")
    if skip_bad and film is not None:
        raise ConfigError("--skip-bad: leaves out images, and here is a film")
