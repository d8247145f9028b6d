"""How much memory a training step needs, what scoring keeps of an image, and whether the loader's workers grow.

    python benchmarks/memory.py [--sizes 256x8 512x4] [--backbone resnet18] [--device cuda] [--repeats 3]
                                [--counts 50 200 800] [--epochs 20] [--workers 2] [--root FOLDER]
                                [--only training scoring workers] [--output FILE]

**Training.** Each row trains from scratch in a process of its own, three steps on generated shapes: ``Trainer.fit``, a
plain loop over the same model, the same loop over a lean model written by hand (see ``memory_lean.py``), the bare
backbone, and single-task models of other libraries (see ``peers.py``). Told is what the process holds at most beyond
what it held before, which is weights, gradients, AdamW's state and activations: as it is, the median of ``--repeats``,
and as it would be if free memory went back at once (with glibc), which does not depend on how the heap was cut. On a
GPU it is what torch has allocated at most.

**Scoring.** `mtv.evaluate` scores 50, 200 and 800 images of 500 x 375 pixels, in one process, and the peak of each is
told. What an image adds from 200 to 800 must be its detections (of which there are as many as there can be), not its
mask.

**Workers.** The loader's workers read a folder in Pascal VOC's layout (without ``--root`` a generated one) with
augmentation; told is what a worker holds alone (USS), its share with others (PSS), and all (RSS) after an epoch.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import peers
from common import sizes_of
from data_folders import generated
from memory_meter import in_fresh_process
from memory_step import LEAN, OURS, PLAIN, Setting, step_memory, variants
from reporting import Row, Table, report

PARTS = ("training", "scoring", "workers")
NO_PSUTIL = "workers: left out: psutil is not installed (pip install -r benchmarks/requirements.txt)"
WANTED = 1.15
_MIB, _KIB = 2.0**20, 2.0**10
_SIZE = (375, 500)


def main(
    setting: Setting | None = None,
    sizes: Mapping[int, int] | None = None,
    repeats: int = 3,
    counts: Sequence[int] = (50, 200, 800),
    epochs: int = 20,
    workers: int = 2,
    images: int = 200,
    root: Path | None = None,
    only: Sequence[str] = PARTS,
    output: Path | None = None,
) -> list[Row]:
    """Measure, print and return the rows of all parts.

    Args:
        setting: backbone, device and number of steps.
        sizes: batch by size of the square images, for training.
        repeats: processes a number is the median of.
        counts: of images to score, growing.
        epochs: of the workers.
        workers: of the loader.
        images: in the generated folder that they read.
        root: a folder in Pascal VOC's layout to read instead.
        only: of `PARTS`.
        output: JSON file.
    """
    tables = []
    if "training" in only:
        for size, batch in (sizes or {256: 8, 512: 4}).items():
            tables.append(training_table(replace(setting or Setting(), size=size, batch=batch), repeats))
    if "scoring" in only:
        tables.append(scoring_table(counts, _SIZE, repeats))
    if "workers" in only:
        tables.append(workers_table(epochs, workers, images, root))
    report("memory", tables, output, "segmentation-models-pytorch", "psutil", "accelerate")
    return [row for table in tables for row in table.rows]


def training_table(setting: Setting, repeats: int) -> Table:
    """Return a row for each training."""
    names = list(variants(setting))
    turns = [{name: in_fresh_process(step_memory, name, setting) for name in names} for _ in range(repeats)]
    peaks = {name: statistics.median(turn[name] for turn in turns) for name in names}
    on_gpu = setting.device == "cuda"
    needed = peaks if on_gpu else {name: in_fresh_process(step_memory, name, setting, exact=True) for name in names}
    rows: list[Row] = [
        {
            "training": name,
            "peak, MiB": peaks[name] / _MIB,
            "x plain loop": peaks[name] / peaks[PLAIN],
            "x lean model": peaks[name] / peaks[LEAN],
            "needed, MiB": needed[name] / _MIB,
            "needed, x plain loop": needed[name] / needed[PLAIN],
            "needed, x lean model": needed[name] / needed[LEAN],
        }
        for name in names
    ]
    found = next(row for row in rows if row["training"] == OURS)
    notes = [
        f"Wanted: {OURS} at most {WANTED} x either loop written by hand; found {found['x plain loop']:.3f} x the "
        f"same model's and {found['x lean model']:.3f} x the lean model's."
    ]
    title = f"Training: {setting.backbone}, {setting.size} x {setting.size}, batch {setting.batch}, {setting.device}"
    return Table(title, rows, notes if peers.has_smp() else [*notes, peers.MISSING])


def scoring_table(counts: Sequence[int], size: tuple[int, int], repeats: int) -> Table:
    """Return a row for each choice of tasks."""
    from memory_growth import BOTH, BOXES, BYTES_A_DETECTION, MASKS, MAX_DETECTIONS, scoring_memory

    kept = MAX_DETECTIONS * BYTES_A_DETECTION
    rows: list[Row] = []
    for tasks in (MASKS, BOXES, BOTH):
        turns = [in_fresh_process(scoring_memory, tasks, counts, size) for _ in range(repeats)]
        peaks = [statistics.median(values) for values in zip(*turns, strict=True)]
        growth = statistics.median((turn[-1] - turn[-2]) / (counts[-1] - counts[-2]) for turn in turns)
        rows.append(
            {
                "tasks": tasks,
                **{f"{count} images, MiB": peak / _MIB for count, peak in zip(counts, peaks, strict=True)},
                "growth, KiB an image": growth / _KIB,
                "its detections, KiB": 0.0 if tasks == MASKS else kept / _KIB,
                "its mask, KiB": size[0] * size[1] / _KIB,
            }
        )
    title = f"mtv.evaluate: peak memory, images of {size[1]} x {size[0]}"
    note = f"Wanted: growth of the detections kept and none of masks (a mask of bytes; {MAX_DETECTIONS} detections)."
    return Table(title, rows, [note])


def workers_table(epochs: int, workers: int, images: int, root: Path | None) -> Table:
    """Return a row for each kind of memory."""
    title = f"The loader's workers: memory of each of {workers}, {epochs} epochs"
    if find_spec("psutil") is None:
        return Table(title, [{"memory of a worker": "left out"}], [NO_PSUTIL])
    from memory_growth import slope, worker_memory

    with tempfile.TemporaryDirectory() as folder:
        read = root or generated(Path(folder) / "voc", images)
        found = in_fresh_process(worker_memory, read, 256, 16, workers, epochs)
    kinds = {
        "alone (USS)": [each.unique for each in found],
        "share (PSS)": [each.proportional or float("nan") for each in found],
        "resident (RSS)": [each.resident for each in found],
    }
    rows: list[Row] = [
        {
            "memory of a worker": name,
            "epoch 1, MiB": values[0] / _MIB,
            "epoch 2, MiB": values[1] / _MIB,
            f"epoch {epochs}, MiB": values[-1] / _MIB,
            "slope from epoch 2, MiB an epoch": slope(values[1:]) / _MIB,
            "the second half's": slope(values[len(values) // 2 :]) / _MIB,
        }
        for name, values in kinds.items()
    ]
    return Table(title, rows, ["Wanted: flat from epoch 2 on."])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["256x8", "512x4"], metavar="SIZExBATCH")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="of training")
    parser.add_argument("--repeats", type=int, default=3, help="processes that a number is the median of")
    parser.add_argument("--counts", nargs="+", type=int, default=[50, 200, 800], help="images to score")
    parser.add_argument("--epochs", type=int, default=20, help="of the loader's workers")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=200, help="in the folder that is generated for the workers")
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="for the workers: in Pascal VOC's layout")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the rows here too, as JSON")
    chosen = vars(parser.parse_args())
    asked = Setting(chosen.pop("backbone"), device=chosen.pop("device"))
    main(asked, sizes_of(chosen.pop("sizes")), **chosen)
