"""A task of one's own, surface normals: a class in one's own script, and a data set that has what it learns from."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection

import mtvision as mtv


class NormalsOutput(NamedTuple):
    """``normals`` ``(N, 3, H, W)``: x to the right, y down, z to the camera; of length 1."""

    normals: Tensor


@mtv.TASKS.register("normals")
class NormalsTask(mtv.Task):
    """Surface normals by cosine similarity; NaN in a target is void."""

    main_metric = "within_11"

    def __init__(self, feature_info: Sequence[mtv.FeatureInfo], *, head: str = "unet") -> None:
        super().__init__()
        self.head = mtv.SEGMENTATION_HEADS.build(head, feature_info, 3)

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> NormalsOutput:
        """Return a unit vector for each pixel of the network's input."""
        return NormalsOutput(_resized(self.head(features), image_size))

    def loss(self, output: NormalsOutput, target: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """Return ``{"normals": 1 - cosine}``, the mean over the pixels that are known, 0 where there is none."""
        unknown = torch.full_like(output.normals[0], torch.nan)
        truth = torch.stack([unknown if each is None else each for each in target])  # (N, 3, H, W)
        known = ~truth.isnan().any(dim=1)
        cosine = (output.normals * truth.nan_to_num()).sum(dim=1)
        return {"normals": ((1 - cosine) * known).sum() / known.sum().clamp(min=1)}

    def postprocess(self, output: NormalsOutput, image_sizes: Sequence[tuple[int, int]] | None = None) -> list[Tensor]:
        """Return unit vectors ``(3, H, W)`` for each image, at its own size."""
        height, width = output.normals.shape[-2:]
        sizes = image_sizes or [(height, width)] * len(output.normals)
        return [_resized(each[None], size)[0] for each, size in zip(output.normals, sizes, strict=True)]

    def metrics(self) -> MetricCollection:
        """Return the mean angle in degrees, and the share of the pixels within 11.25 degrees."""
        return MetricCollection({"angle": Angle(), "within_11": Within11()})


def _resized(vectors: Tensor, size: tuple[int, int]) -> Tensor:
    return F.normalize(F.interpolate(vectors.float(), size=size, mode="bilinear", align_corners=False), dim=1)


class Angle(Metric):
    """Mean angle between predicted and true normals, in degrees."""

    higher_is_better = False
    full_state_update = False
    total: Tensor
    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        for state in ("total", "pixels"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[Tensor], truths: Sequence[Tensor | None]) -> None:
        """Add the pixels that are known; an image without truth is left out."""
        for prediction, truth in zip(predictions, truths, strict=True):
            if truth is not None:
                cosine = (prediction.cpu().double() * truth.double()).sum(dim=0).clamp(-1, 1)
                angles = cosine[~cosine.isnan()].acos().rad2deg()
                self.total += self.value(angles).sum()
                self.pixels += len(angles)

    def value(self, angles: Tensor) -> Tensor:
        """Return what is averaged."""
        return angles

    def compute(self) -> Tensor:
        """Return a scalar, NaN if nothing is annotated."""
        return self.total / self.pixels


class Within11(Angle):
    """Share of the pixels whose normal is at most 11.25 degrees off."""

    higher_is_better = True

    def value(self, angles: Tensor) -> Tensor:
        """Return 1 for a pixel that is near enough."""
        return (angles <= 11.25).double()


@mtv.DATASETS.register("bumps")
class Bumps(mtv.data.SampleDataset):
    """Smooth bumps lit by a red, a green and a blue lamp, with their exact normals; nothing is read from the root."""

    classes = mtv.Classes((), ())
    lamps = np.array([[0.5, 0.0, 0.8], [-0.4, 0.5, 0.7], [-0.2, -0.6, 0.7]])

    def __init__(self, root: Path, split: str, *, num_images: int = 64, side: int = 64) -> None:  # noqa: ARG002
        self.split, self.side = ("train", "val", "test").index(split), side
        self.length = num_images if split == "train" else max(num_images // 4, 1)

    def __len__(self) -> int:
        return self.length

    def sample(self, index: int) -> mtv.Sample:
        """Return the sum of five bumps h exp(-r² / 2w²), whose slope is known, and its shaded picture."""
        rng = np.random.default_rng([self.split, index])
        y, x = (np.indices((self.side, self.side)) + 0.5) / self.side
        slope = np.zeros((2, self.side, self.side))
        for cx, cy, height, width in rng.uniform([0, 0, -0.15, 0.08], [1, 1, 0.15, 0.2], (5, 4)):
            away = np.stack([x - cx, y - cy]) / width
            slope -= height * np.exp(-(away**2).sum(axis=0) / 2) * away / width
        normals = np.stack([-slope[0], -slope[1], np.ones_like(x)], axis=-1)
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        light = (normals @ self.lamps.T).clip(0) + rng.normal(0, 0.02, normals.shape)
        image = (light.clip(0, 1) * 255).astype(np.uint8)
        maps = {"normals": normals.astype(np.float32)}
        return mtv.Sample(image, None, None, None, None, str(index), image.shape[:2], maps=maps)


def main(epochs: int = 15, images: int = 64, run_dir: Path | None = None) -> tuple[float, float]:
    config: dict[str, Any] = {
        "system": {"epochs": epochs},
        "model": {
            "backbone": "test_resnet",
            "segmentation_head": None,
            "detection_head": None,
            "tasks": {"normals": "normals"},
            "dropout_rate": 0.0,
        },
        "training": {"batch_size": 8},
        "data": {
            "dataset": {"name": "bumps", "num_images": images},
            "image_size": 64,
            "augmentation_level": "none",  # a mirrored image needs mirrored vectors: see docs/tasks.md
        },
    }
    before = mtv.evaluate(mtv.build_model(config), mtv.build_dataset(config, "val")).metrics["normals/angle"]
    after = mtv.train(config, run_dir).metrics["normals/angle"]
    print(f"mean angular error: {before:.1f} degrees before training, {after:.1f} after it")
    return before, after


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--run-dir", type=Path)
    options = parser.parse_args()
    try:
        main(options.epochs, options.images, options.run_dir)
    except mtv.MtvisionError as error:
        raise SystemExit(f"error: {error}") from None
