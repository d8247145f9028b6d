"""What `Trainer.fit` costs over a plain loop that does the same: forward, loss, backward, clipping, AdamW, schedule.

    python benchmarks/trainer_overhead.py [--backbone resnet18] [--size 128] [--batch 8] [--epochs 3] [--repeats 5]

Both train the same model on the same batches from the same loader, without validation and without a run folder; they
take turns, and the medians of the CPU seconds of all of it are compared, setting up included. Their weights are
compared too: they must be the same, else the work was not.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import mtvision as mtv
from mtvision.registries import SCHEDULES
from mtvision.training.schedule import learning_rate


def main(backbone: str, size: int, batch: int, epochs: int, images: int, repeats: int) -> float:
    """Print and return the median ratio."""
    config = mtv.Config(
        system={"epochs": epochs, "device": "cpu"},
        model={"backbone": backbone, "dropout_rate": 0.0},
        training={"batch_size": batch},
        data={"dataset": {"name": "shapes", "num_images": images, "image_size": size}, "image_size": size},
    )
    data = mtv.build_dataset(config, "train")
    samples = [data[index] for index in range(len(data))]  # drawn once: what is compared is not the data set
    kinds: dict[str, Callable[[], mtv.MultiTaskModel]] = {
        "plain loop": lambda: plain_loop(config, samples, data.classes),
        "Trainer.fit": lambda: trainer(config, samples, data.classes),
    }
    weights = {name: _weights(train()) for name, train in kinds.items()}  # also warms up
    plain, ours = weights.values()
    if not torch.allclose(plain, ours, rtol=1e-4, atol=1e-6):
        raise SystemExit("the two did not do the same work: their weights differ")
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repeats):
        for name, train in kinds.items():
            began = time.process_time()
            train()
            seconds[name].append(time.process_time() - began)
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    steps = epochs * len(mtv.build_loader(config, samples, training=True))
    for name, values in seconds.items():
        print(f"{name:<12} {statistics.median(values) / steps * 1000:8.2f} CPU ms a step, median of {repeats}")
    ratio: float = statistics.median(ratios)
    print(
        f"ratio {ratio:.3f} (pairs from {min(ratios):.3f} to {max(ratios):.3f}); {backbone}, {size} px, batch {batch}"
    )
    return ratio


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
            torch.stack([part for parts in losses.values() for part in parts.values()]).sum().backward()
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
    options = parser.parse_args()
    main(options.backbone, options.size, options.batch, options.epochs, options.images, options.repeats)
