"""Class-balanced sampling against uniform sampling: the classes that are rare, over several seeds, with intervals.

    python benchmarks/class_balance.py --root DATA --seeds 0 1 2 --epochs 12 --size 160 [--device cuda] [--output FILE]

DATA is a folder in Pascal VOC's layout. For each seed two runs differ in `data.sampler` alone: they have the same
initial weights and the same number of steps. The last epoch is scored (the best one would have been chosen on the
images that it is scored on). A class is rare if it is in a smaller share of the training images than the threshold,
which is the sampler's own. Classes that do not occur in training or in validation are left out, and so is the
background. Differences are paired by seed; their 95 % intervals are those of Student's t over the seeds, each for
itself: of 20 rows without any effect one is expected to leave out 0. They tell of other seeds, not of other images.
A command that was stopped goes on where it was when it is given again.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

import mtvision as mtv
from mtvision.data.loading.orders import class_factors
from mtvision.training.evaluation import EvaluationResult

SAMPLERS = ("uniform", "class_balanced")
METRICS = {"boxes": "det/ap50", "pixels": "seg/iou"}
LEVEL = 0.95

Scores = Mapping[str, Sequence[Mapping[str, float]]]
"""By sampler, for each seed: one value a class."""


def main(
    root: Path,
    runs: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 12,
    size: int = 160,
    batch: int = 16,
    lr: float = 0.002,
    device: str = "auto",
    precision: str = "fp32",
    backbone: str = "resnet18",
    weights: Path | None = None,
    threshold: float | Literal["median"] = "median",
    workers: int = 0,
) -> dict[str, Any]:
    config = mtv.Config(
        system={"epochs": epochs, "device": device, "precision": precision},
        model={"backbone": backbone},
        training={"batch_size": batch, "lr": lr, "warmup_epochs": min(1.0, epochs / 4)},
        data={"dataset_root": str(root), "image_size": size, "num_workers": workers},
    )
    if weights is not None:  # with the activation that they were learned with
        config = config.replace({"model.pretrained": str(weights), "model.activation": None})
    choices: dict[str, Any] = {name: name for name in SAMPLERS}
    choices["class_balanced"] = {"name": "class_balanced", "threshold": threshold}
    results: dict[str, list[EvaluationResult]] = {name: [] for name in SAMPLERS}
    for seed in seeds:
        for name, sampler in choices.items():
            own = config.replace({"system.seed": seed, "data.sampler": sampler})
            results[name].append(_trained(own, runs / f"{name}-{seed}"))
    rows = []
    for kind, metric in METRICS.items():
        scores = {name: [result.per_class[metric] for result in of] for name, of in results.items()}
        rows += compare(metric, scores, _classes(config, kind, threshold))
    print(markdown(rows, len(seeds)), flush=True)
    metrics = {name: [result.metrics for result in of] for name, of in results.items()}
    return {"config": config.dump(), "threshold": threshold, "seeds": list(seeds), "metrics": metrics, "rows": rows}


def _trained(config: mtv.Config, folder: Path) -> EvaluationResult:
    result = mtv.train(config, folder, progress=False)
    found = mtv.evaluate(mtv.load_model(folder, which="last"), mtv.build_dataset(config, "val"))
    scores = "  ".join(f"{name} {value:.3f}" for name, value in found.metrics.items())
    print(f"{folder.name}: {result.seconds:.0f} s  {scores}", flush=True)
    return found


def _classes(config: mtv.Config, kind: str, threshold: float | Literal["median"]) -> dict[str, dict[str, Any]]:
    """Return the classes that occur in training and in validation, the rarest first."""
    train, val = mtv.build_dataset(config, "train"), mtv.build_dataset(config, "val")
    names = train.classes.detection if kind == "boxes" else train.classes.segmentation[1:]
    present, annotated = _flags(train, kind)
    seen = _flags(val, kind)[0].sum(axis=0).tolist()
    shares = present[annotated].mean(axis=0).tolist() if annotated.any() else [0.0] * len(names)
    is_rare = (class_factors(present, annotated, threshold) > 1).tolist() if annotated.any() else [False] * len(names)
    columns = zip(names, shares, is_rare, seen, strict=True)
    found = {name: {"train_share": f, "is_rare": r, "val_images": n} for name, f, r, n in columns if f > 0 and n > 0}
    return dict(sorted(found.items(), key=lambda item: item[1]["train_share"]))


def _flags(dataset: Any, kind: str) -> tuple[Any, Any]:
    """Return which image has which class, and which image is annotated."""
    table = mtv.data.annotation_table(dataset)
    return (table.box_classes, table.has_boxes) if kind == "boxes" else (table.mask_classes[:, 1:], table.has_mask)


def compare(metric: str, scores: Scores, classes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each rare class and for the means over the rare, the frequent and all classes."""
    rare = [name for name, of in classes.items() if of["is_rare"]]
    groups = {name: [name] for name in rare}
    groups["mean of the rare"] = rare
    groups["mean of the frequent"] = [name for name in classes if name not in rare]
    groups["mean of all"] = list(classes)
    rows = []
    for title, names in groups.items():
        if names:
            values = {key: [float(np.mean([of[name] for name in names])) for of in scores[key]] for key in SAMPLERS}
            about = dict(classes[title]) if title in classes else {"num_classes": len(names)}
            rows.append({"metric": metric, "name": title, **about, **values, **paired(*values.values())})
    return rows


def paired(first: Sequence[float], second: Sequence[float]) -> dict[str, float | None]:
    """Return the mean of the differences, second minus first, and the ends of its interval, None for a single pair."""
    differences = np.subtract(second, first)
    mean, number = float(differences.mean()), len(differences)
    if number < 2:
        return {"difference": mean, "low": None, "high": None}
    half = float(stats.t.ppf((1 + LEVEL) / 2, number - 1) * differences.std(ddof=1) / math.sqrt(number))
    return {"difference": mean, "low": mean - half, "high": mean + half}


def markdown(rows: Sequence[Mapping[str, Any]], num_seeds: int) -> str:
    lines = [
        f"| metric (mean of {num_seeds} seeds) | class | train images | val images | uniform | class_balanced "
        f"| difference | {LEVEL:.0%} interval |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        images = ["", ""]
        if "train_share" in row:
            images = [f"{row['train_share']:.1%}", str(row["val_images"])]
        title = row["name"] + (f" ({row['num_classes']})" if "num_classes" in row else "")
        means = [f"{np.mean(row[name]):.3f}" for name in SAMPLERS]
        interval = "" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
        cells = [row["metric"], title, *images, *means, f"{row['difference']:+.3f}", interval]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _threshold(text: str) -> float | Literal["median"]:
    return "median" if text == "median" else float(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/class_balance"), help="folder of the runs' folders")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", type=Path, help="of the backbone; from scratch without")
    parser.add_argument("--threshold", type=_threshold, default="median")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file")
    options = vars(parser.parse_args())
    folder, runs_folder, output = (options.pop(name) for name in ("root", "runs", "output"))
    found = main(folder, runs_folder, **options)
    if output:
        output.write_text(json.dumps(found, indent=2))
