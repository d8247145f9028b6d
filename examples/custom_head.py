"""A head of one's own: a decorated class in one's own script, by its name in the config."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import mtvision as mtv


@mtv.SEGMENTATION_HEADS.register("mine")
class MyHead(nn.Module):
    """Two convolutions on the finest feature; a head may return logits of any stride."""

    def __init__(self, feature_info: Sequence[mtv.FeatureInfo], num_classes: int, *, channels: int = 32) -> None:
        super().__init__()
        reduce = nn.Conv2d(feature_info[0].channels, channels, 3, padding=1)
        self.layers = nn.Sequential(reduce, nn.ReLU(), nn.Conv2d(channels, num_classes, 1))

    def forward(self, features: Sequence[Tensor]) -> Any:  # noqa: D102
        return self.layers(features[0])


def main(epochs: int = 3, images: int = 100, run_dir: Path | None = None) -> dict[str, float]:
    config = {
        "system": {"epochs": epochs},
        "model": {
            "backbone": "test_resnet",
            "segmentation_head": {"name": "mine", "channels": 48},
            "dropout_rate": 0.0,
        },
        "training": {"batch_size": 8},
        "data": {"dataset": {"name": "shapes", "num_images": images, "image_size": 64}, "image_size": 64},
    }
    result = mtv.train(config, run_dir=run_dir)
    print(result.model.tasks["seg"])
    return result.metrics


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--run-dir", type=Path)
    options = parser.parse_args()
    try:
        main(options.epochs, options.images, options.run_dir)
    except mtv.MtvisionError as error:
        raise SystemExit(f"error: {error}") from None
