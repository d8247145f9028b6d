"""What eight bits cost: scores on the validation set, size and time of a trained model in float and quantised.

    python benchmarks/quantisation.py RUN [--repeats 15] [--output FILE]

RUN is the folder of a finished run, such as ``make demo`` leaves in ``runs/demo``. Its best checkpoint is exported as
ONNX with ``postprocess="raw"`` and quantised both ways, with the first 100 training images for the ranges. All forms
have the same preprocessing and postprocessing, ours: what differs is the network.

Time is the processor's for the network and one image, on one thread; the forms take turns, and the median is told.
What eight bits gain depends on the processor: without instructions for products of 8-bit numbers (VNNI) it is little.
"""

import argparse
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from common import measured
from inference_runtimes import in_onnxruntime
from reporting import Row, Table, report

import mtvision as mtv

METRICS = {"mIoU": "seg/miou", "mAP@50": "det/map50", "mAP@50:95": "det/map50_95"}


def main(run: Path, repeats: int = 15, output: Path | None = None) -> list[Row]:
    """Measure, print and return a row for each form of the model."""
    torch.set_num_threads(1)
    config = mtv.Config.load(run / "config.yaml")
    model = mtv.load_model(run).eval()
    val = mtv.build_dataset(config, "val")
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(model, config, Path(folder))
        forms = {"eager": model} | {name: in_onnxruntime(model, path) for name, path in files.items()}
        megabytes = {name: path.stat().st_size / 1e6 for name, path in files.items()}
    scores = {name: mtv.evaluate(form, val, batch_size=8).metrics for name, form in forms.items()}
    milliseconds = times(forms, config.data.image_size, repeats)
    rows: list[Row] = [
        {"form": name}
        | {column: scores[name][key] for column, key in METRICS.items() if key in scores[name]}
        | {"MB": megabytes.get(name), "ms": milliseconds[name]}
        for name in forms
    ]
    height, width = config.data.image_size
    what = f"{config.model.backbone.name}, {height} x {width}, {len(val)} validation images"
    title = f"Quantisation: {what}, one thread, median of {repeats}"
    report("quantisation", [Table(title, rows)], output, "onnx", "onnxruntime")
    return rows


def write_files(model: mtv.MultiTaskModel, config: mtv.Config, folder: Path) -> dict[str, Path]:
    """Write the model in all forms; return the files by name."""
    calibration = mtv.build_dataset(config, "train")
    exported = mtv.export(model, folder / "model.onnx", postprocess="raw", dynamic="batch").path
    static = mtv.quantize(exported, folder / "static.onnx", calibration=calibration).path
    dynamic = mtv.quantize(exported, folder / "dynamic.onnx", method="dynamic").path
    return {"float": exported, "int8, static": static, "int8, dynamic": dynamic}


def times(forms: Mapping[str, mtv.MultiTaskModel], size: tuple[int, int], repeats: int) -> dict[str, float]:
    """Return the milliseconds of the processor that each form takes for one image."""
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    with torch.inference_mode():
        seconds = measured({name: partial(form, image) for name, form in forms.items()}, repeats, warm_up=3)
    return {name: each.cpu * 1000 for name, each in seconds.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path)
    try:
        main(**vars(parser.parse_args()))
    except mtv.MtvisionError as error:
        raise SystemExit(f"error: {error}") from None
