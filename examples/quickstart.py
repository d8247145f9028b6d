"""From a config to a trained joint model in a few minutes on two cores: generated shapes, nothing to download."""

import argparse
from pathlib import Path

import mtvision as mtv

CONFIG: dict[str, dict[str, object]] = {
    "system": {"epochs": 16, "seed": 42},
    "model": {
        "backbone": "test_resnet",  # timm's smallest ResNet, 0.4 M parameters; any other timm name works here
        "segmentation_head": "unet",
        "detection_head": {"name": "fpn", "channels": 64},
        "init_scheme": "kaiming",
        "dropout_rate": 0.0,
    },
    "training": {
        "lr": 0.002,
        "lr_schedule": "cosine",
        "batch_size": 8,
        "seg_loss": "cross_entropy",
        "det_loss": "ciou",
    },
    "data": {
        "dataset": {"name": "shapes", "num_images": 500, "image_size": 128},
        "image_size": 128,
        "augmentation_level": "basic",
    },
}


def main(run_dir: Path | None = None, seed: int = 42, epochs: int | None = None, images: int = 500) -> dict[str, float]:
    config = mtv.Config(**CONFIG)
    config = config.replace(
        {"system.seed": seed, "system.epochs": epochs or config.system.epochs, "data.dataset.num_images": images}
    )
    result = mtv.train(config, run_dir=run_dir)
    model = mtv.load_model(result.run_dir)
    image = mtv.build_dataset(config, "test")[0].image
    prediction = model.predict(image, score_threshold=0.3)[0]
    print(f"mask {tuple(prediction['seg'].shape)}, {len(prediction['det']['boxes'])} boxes in the first test image")
    for name, value in result.metrics.items():
        print(f"{name:<20} {value:.4f}")
    return result.metrics


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int, default=500)
    options = parser.parse_args()
    try:
        main(options.run_dir, options.seed, options.epochs, options.images)
    except mtv.MtvisionError as error:
        raise SystemExit(f"error: {error}") from None
