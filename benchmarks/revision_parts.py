"""What each part costs with the mtvision that is imported; ``before_and_after.py`` calls it with one and the other.

    PYTHONPATH=src python benchmarks/revision_parts.py src FOLDER [--repeats 3] [--backbone resnet18]

It fails if mtvision is not imported from the first folder. The second holds images in Pascal VOC's layout, the split
``train``. Only what every version has is used: configs, `build_model`, `build_dataset`, `build_loader`, `evaluate`. The
last line is JSON: CPU seconds by part, or the sentence that says why a part could not be measured.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_BEGAN = time.process_time()
import mtvision as mtv  # noqa: E402 - what it adds to torch is the first thing to be measured

# a later version loads parts when they are asked for
mtv.Config(model={"segmentation_head": "unet"}, training={"seg_loss": "focal", "balancer": "uncertainty"})
IMPORT_SECONDS = time.process_time() - _BEGAN

NUM_CLASSES = {"seg": 21, "det": 20}


def main(source: Path, folder: Path, repeats: int = 3, backbone: str = "resnet18") -> dict[str, float | str]:
    """Return the median CPU seconds of each part."""
    if not Path(mtv.__file__).is_relative_to(source.resolve()):
        raise SystemExit(f"mtvision comes from {mtv.__file__}, not from {source}")
    with tempfile.TemporaryDirectory() as cache:
        return measured(folder, Path(cache), repeats, backbone)


def measured(folder: Path, cache: Path, repeats: int, backbone: str) -> dict[str, float | str]:
    """Return the median CPU seconds of each part; ``cache`` is an empty folder."""
    parts: dict[str, Callable[[], Callable[[], object]]] = {
        "training step, 256 x 256 x 8": lambda: training(backbone),
        "predict, 1 image": lambda: prediction(backbone, 1),
        "predict, 8 images": lambda: prediction(backbone, 8),
        "loading, heavy augmentation, from files": lambda: loading(folder),
        "loading, heavy augmentation, cached": lambda: loading(folder, cache=str(cache)),
        "evaluate, test_resnet": lambda: scoring(folder),
    }
    found: dict[str, float | str] = {"import and first config, after torch": IMPORT_SECONDS}
    for name, prepare in parts.items():
        try:
            from common import median_seconds  # of this tree; it may ask for what an older version has not

            found[name] = median_seconds({name: prepare()}, repeats)[name]
        except Exception as error:  # noqa: BLE001 - an older version may lack the part, in whatever way
            found[name] = f"{type(error).__name__}: {error}"
    return found


def training(backbone: str) -> Callable[[], object]:
    """Return a step of the default model."""
    from common import model_step

    images = torch.randint(0, 256, (8, 3, 256, 256), dtype=torch.uint8)
    model = mtv.build_model({"backbone": backbone, "num_classes": NUM_CLASSES})
    return model_step(model.train(), images)


def prediction(backbone: str, number: int) -> Callable[[], object]:
    """Return what predicts images of 375 x 500 with random weights, the same in both versions."""
    config = mtv.Config(model={"backbone": backbone, "num_classes": NUM_CLASSES}, data={"image_size": 256})
    model = mtv.build_model(config).eval()
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, 375, 500), dtype=torch.uint8, generator=generator) for _ in range(number)]
    arrays = [image.permute(1, 2, 0).contiguous().numpy() for image in images]
    return lambda: model.predict(arrays)


def loading(folder: Path, **settings: Any) -> Callable[[], object]:
    """Return what reads an epoch in this process; with a cache the turn to warm up fills it."""
    config = data_config(folder, augmentation_level="heavy", **settings)
    loader = mtv.build_loader(config, mtv.build_dataset(config), training=True)
    return lambda: sum(len(batch.images) for batch in loader)


def scoring(folder: Path) -> Callable[[], object]:
    """Return what scores a small model: resizing to the image's size and both metrics are most of it."""
    config = data_config(folder)
    data = mtv.build_dataset(config)
    model = mtv.build_model(config, classes=data.classes)
    return lambda: mtv.evaluate(model, data)


def data_config(folder: Path, **settings: Any) -> mtv.Config:
    """Return a config of a small model and the images of the folder."""
    return mtv.Config(
        model={"backbone": "test_resnet"},
        training={"batch_size": 8},
        data={"dataset": "voc", "dataset_root": str(folder), "image_size": 256, "num_workers": 0, **settings},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backbone", default="resnet18")
    print(json.dumps(main(**vars(parser.parse_args()))))
