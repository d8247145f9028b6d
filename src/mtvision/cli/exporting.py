"""``mtvision export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mtvision.cli.arguments import Run, Which, load_run
from mtvision.errors import ConfigError, choices_hint

if TYPE_CHECKING:
    from mtvision.exporting import Exported
    from mtvision.exporting.exporter import Dynamic
    from mtvision.exporting.metadata import InputType, Postprocess

_DYNAMIC: dict[str, "Dynamic"] = {"all": True, "batch": "batch", "none": False}

File = Annotated[
    Path, typer.Argument(metavar="FILE.onnx|FILE.pt2", help="The suffix tells the format, ONNX or torch.export.")
]
PostprocessOption = Annotated[
    str,
    typer.Option(
        "--postprocess",
        metavar="inside|outside|raw",
        help="Whether the file gives masks and final boxes, or what no choice was made of yet, or all raw outputs.",
    ),
]
DynamicOption = Annotated[
    str,
    typer.Option(
        "--dynamic", metavar="all|batch|none", help="What is free: number, height and width; the number; nothing."
    ),
]
Size = Annotated[
    tuple[int, int] | None,
    typer.Option("--image-size", metavar="HEIGHT WIDTH", help="In pixels; without it that of the run."),
]
Batch = Annotated[int, typer.Option("--batch-size", min=1, metavar="N", help="Number of images, with --dynamic none.")]
InputOption = Annotated[
    str, typer.Option("--input-type", metavar="uint8|float32", help="Images from 0 to 255, or in [0, 1].")
]
Opset = Annotated[int | None, typer.Option(metavar="N", help="Version of ONNX's operators.")]
Check = Annotated[bool, typer.Option(help="Compare the file with the model on random images.")]


def export(
    run: Run,
    file: File,
    postprocess: PostprocessOption = "inside",
    dynamic: DynamicOption = "all",
    image_size: Size = None,
    batch_size: Batch = 1,
    input_type: InputOption = "uint8",
    opset: Opset = None,
    check: Check = True,
    which: Which = "best",
) -> None:
    """Write a run's model into one file that runs without mtvision, and check it.

    Example:
      mtvision export runs/a model.onnx
      mtvision export runs/a model.pt2 --postprocess outside --dynamic batch --image-size 256 384
    """
    from mtvision.exporting import export as export_model
    from mtvision.exporting.metadata import SUFFIXES

    if file.suffix not in SUFFIXES:
        raise ConfigError(f"{file}: the suffix does not tell the format; expected {' or '.join(SUFFIXES)}")
    if dynamic not in _DYNAMIC:
        raise ConfigError(f"--dynamic: unknown '{dynamic}'{choices_hint(dynamic, _DYNAMIC)}")
    if batch_size != 1 and dynamic != "none":
        raise ConfigError("--batch-size: belongs to --dynamic none; else the file takes any number of images")
    exported = export_model(
        load_run(run, which, "cpu"),
        file,
        postprocess=cast("Postprocess", postprocess),  # checked there, as is the type
        dynamic=_DYNAMIC[dynamic],
        image_size=image_size,
        batch_size=batch_size,
        input_type=cast("InputType", input_type),
        opset=opset,
        check=check,
    )
    typer.echo(_summary(exported, checked=check))


def _summary(exported: "Exported", *, checked: bool) -> str:
    difference = f"differs from the model by {exported.largest_difference:.1g} at most" if checked else "not checked"
    size, outputs = f"{exported.num_bytes / 2**20:.1f} MiB", ", ".join(exported.outputs)
    return f"written: {exported.path}, {size}, {difference}\noutputs: {outputs}"
