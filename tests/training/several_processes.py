"""What `test_several_processes` starts in each process: ``several_processes.py FOLDER [key=value ...] [die=STEP]``."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

import mtvision as mtv

CONFIG = {
    "system": {"epochs": 2, "device": "cpu", "seed": 3, "checkpoint_steps": 1},
    "model": {
        "backbone": "test_resnet",
        "dropout_rate": 0.0,
        "norm": "group",
        "tasks": {"tags": {"name": "classification", "num_classes": 5}},
    },
    "training": {
        "batch_size": 8,
        "accumulate": 2,
        "optimizer": "sgd",
        "lr": 0.1,
        "seg_loss": [{"name": "cross_entropy"}, {"name": "dice"}, {"name": "boundary"}, {"name": "focal"}],
        "loss_weights": {"seg": 1.0, "det": 0.5, "tags": 2.0},
    },
    "data": {"image_size": 64, "augmentation_level": "heavy"},
}


class PartlyAnnotated:
    """Shapes of which some have no mask, and others no boxes; 16 to train on, 7 to score."""

    def __init__(self, split):
        self.shapes = mtv.build_dataset(
            {"data": {"dataset": {"name": "shapes", "num_images": 21 if split == "train" else 28, "image_size": 64}}},
            split,
        )
        self.classes = self.shapes.classes

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        sample = self.shapes[index]
        if index % 3 == 0:
            sample = replace(sample, mask=None)
        if index % 4 == 1:
            sample = replace(sample, boxes=None, labels=None, difficult=None)
        return sample


class Dies(mtv.Callback):
    """Ends the second process, without a word, after a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, step):
        if step.global_step == self.step and os.environ.get("RANK") == "1":
            os._exit(9)


def run(folder, values, callbacks=()):
    cfg = mtv.Config(**CONFIG).replace(values)
    train, val = PartlyAnnotated("train"), PartlyAnnotated("val")
    model = mtv.build_model(cfg, classes=train.classes)
    trainer = mtv.Trainer(model, cfg, run_dir=folder, progress=False, callbacks=callbacks)
    trainer.fit(train, val, resume=True)
    metrics = trainer.evaluate(val)
    rank = int(os.environ.get("RANK", "0"))
    (folder / f"evaluated-{rank}.json").write_text(json.dumps(metrics))
    torch.save(model.state_dict(), folder / f"weights-{rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    options = dict(argument.split("=", 1) for argument in sys.argv[2:])
    die = int(options.pop("die", "0"))
    run(Path(sys.argv[1]), {key: json.loads(value) for key, value in options.items()}, [Dies(die)] if die else [])
