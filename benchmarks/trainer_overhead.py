"""What `Trainer.fit` costs over a plain loop that does the same: forward, loss, backward, clipping, AdamW, schedule.

    python benchmarks/trainer_overhead.py [--backbone resnet18] [--size 128] [--batch 8] [--epochs 3] [--images 96]
                                          [--repeats 5] [--output FILE]

Both train the same model on the same batches from the same loader, without validation and without a run folder; they
take turns, and the seconds of all of it are compared, setting up included: the ratio is the median of the pairs'. Their
weights are compared too: they must be the same, else the work was not.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from common import Seconds, measured, sum_of_parts
from reporting import Row, Table, report
from torch import Tensor

import mtvision as mtv
from mtvision.registries import SCHEDULES
from mtvision.training.schedule import learning_rate

PLAIN, OURS = "plain loop", "Trainer.fit"
WANTED = 1.03


def main(
    backbone: str = "resnet18",
    size: int = 128,
    batch: int = 8,
    epochs: int = 3,
    images: int = 96,
    repeats: int = 5,
    output: Path | None = None,
) -> list[Row]:
    """Print and return a row for each of the two."""
    config = mtv.Config(
        system={"epochs": epochs, "device": "cpu"},
        model={"backbone": backbone, "dropout_rate": 0.0},
        training={"batch_size": batch},
        data={"dataset": {"name": "shapes", "num_images": images, "image_size": size}, "image_size": size},
    )
    data = mtv.build_dataset(config, "train")
    samples = [data[index] for index in range(len(data))]  # drawn once: what is compared is not the data set
    kinds: dict[str, Callable[[], mtv.MultiTaskModel]] = {
        PLAIN: lambda: plain_loop(config, samples, data.classes),
        OURS: lambda: trainer(config, samples, data.classes),
    }
    check(*(_weights(train()) for train in kinds.values()))  # also warms up
    steps = epochs * len(mtv.build_loader(config, samples, training=True))
    rows = rows_of([measured(kinds, repeats=1, warm_up=0) for _ in range(repeats)], steps)
    title = f"{backbone}, {size} px, batch {batch}, {steps} steps, median of {repeats}"
    wanted = f"Wanted: at most {WANTED} x the plain loop's CPU seconds; found {rows[1]['x plain loop (CPU)']:.3f}."
    report("trainer_overhead", [Table(title, rows, [wanted])], output)
    return rows


def rows_of(turns: Sequence[Mapping[str, Seconds]], steps: int) -> list[Row]:
    """Return the medians of each, and of its ratios to the plain loop in the same turn."""
    rows: list[Row] = []
    for name in (PLAIN, OURS):
        cpu = [turn[name].cpu / turn[PLAIN].cpu for turn in turns]
        wall = [turn[name].wall / turn[PLAIN].wall for turn in turns]
        rows.append(
            {
                "loop": name,
                "CPU ms a step": statistics.median(turn[name].cpu for turn in turns) / steps * 1000,
                "wall ms a step": statistics.median(turn[name].wall for turn in turns) / steps * 1000,
                "x plain loop (CPU)": statistics.median(cpu),
                "from": min(cpu),
                "to": max(cpu),
                "x plain loop (wall)": statistics.median(wall),
            }
        )
    return rows


def check(plain: Tensor, ours: Tensor) -> None:
    """Leave if the two did not end with the same weights."""
    if not torch.allclose(plain, ours, rtol=1e-4, atol=1e-6):
        raise SystemExit("the two did not do the same work: their weights differ")


def plain_loop(config: mtv.Config, samples: list[mtv.Sample], classes: mtv.Classes) -> mtv.MultiTaskModel:
    """Do what ``examples/plain_loop.py`` does, with the config's schedule."""
    settings = config.training
    loader = mtv.build_loader(config, samples, training=True)
    model = mtv.build_model(config, classes=classes).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = SCHEDULES.build(settings.lr_schedule, config.system.epochs)
    for epoch in range(config.system.epochs):
        loader.set_epoch(epoch)
        for step, batch in enumerate(loader):
            at = epoch + (step + 0.5) / len(loader)
            optimizer.param_groups[0]["lr"] = learning_rate(settings.lr, schedule, at, settings.warmup_epochs)
            losses = model.loss(model(batch.images), batch.targets)
            optimizer.zero_grad()
            sum_of_parts(losses).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or float("inf"))
            optimizer.step()
    return model


def trainer(config: mtv.Config, samples: list[mtv.Sample], classes: mtv.Classes) -> mtv.MultiTaskModel:
    """Do it by `Trainer`."""
    model = mtv.build_model(config, classes=classes)
    mtv.Trainer(model, config, progress=False).fit(samples)
    return model


def _weights(model: mtv.MultiTaskModel) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the rows here too, as JSON")
    main(**vars(parser.parse_args()))
