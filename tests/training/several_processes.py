"""What tests of several processes start in each: ``several_processes.py FOLDER [key=value ...]``.

A further argument is ``die=STEP``.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

import mtvision as mtv
from mtvision.training import processes, sharding
from quick_processes import spread

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


SHARDED = {
    "system.sharding": "full",
    "training.batch_size": 6,
    "training.ema_decay": 0.9,
    "training.balancer": "uncertainty",
    "training.freeze_backbone_epochs": 1,
}
"""4 optimizer steps, the second of each epoch of one batch; the backbone is frozen in the first epoch."""


PROTOCOLS = ["boundary", "voc"]


def torchrun(folder, *values, number=2, expected=0):
    """Start `main` as a user starts processes, and return what they said; each has to import all for itself."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}", __file__]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    given = [str(folder), *values]
    done = subprocess.run([*command, *given], capture_output=True, text=True, timeout=240, env=environment)
    assert (done.returncode == 0) == (expected == 0), done.stderr[-3000:]
    return done.stderr


def launch(folder, *values, function=None, number=2, expected=0):
    """Start `main`, or another function of the same arguments, in processes that have imported all, and the same."""
    folder.mkdir(parents=True, exist_ok=True)
    codes, said = spread(function or main, (folder, *values), number, folder.parent)
    assert (set(codes) == {0}) == (expected == 0), said[-3000:]
    return said


def rows(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


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


class CutError(Exception):
    """The end of a run that is not over."""


class Cuts(mtv.Callback):
    """Ends all processes' run after a step, whose checkpoint is then not written."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, step):
        if step.global_step == self.step:
            raise CutError


class Shares(mtv.Callback):
    """Writes down which part of each parameter and of the optimizer's state this process has after the first step."""

    def __init__(self, folder):
        self.path = folder / f"shares-{processes.rank()}.json"
        self.models, self.state = [], {}
        self._shard, self._whole = sharding.shard, sharding.whole
        sharding.shard, sharding.whole = self.shard, self.whole

    def shard(self, model, device):
        self._shard(model, device)
        self.models.append(model)

    def whole(self, values):
        if isinstance(values, dict) and "param_groups" in values:
            self.state = {**values["state"]}
        return self._whole(values)

    def on_epoch_end(self, trainer, row):
        shares = {
            name: [list(value.shape), list(value.to_local().shape)] for name, value in self.models[0].named_parameters()
        }
        moments = [entry["momentum_buffer"] for entry in self.state.values()]
        own = [value.to_local() if isinstance(value, DTensor) else value for value in moments]
        content = {
            "models": len(self.models),
            "units": [name for name, module in self.models[0].named_modules() if type(module).__name__[:4] == "FSDP"],
            "parameters": shares,
            "state": [[whole.numel(), local.numel()] for whole, local in zip(moments, own, strict=True)],
            "plain": type(trainer.model).__name__,
        }
        self.path.write_text(json.dumps(content))


def run(folder, values, callbacks=()):
    cfg = mtv.Config(**CONFIG).replace(values)
    train, val = PartlyAnnotated("train"), PartlyAnnotated("val")
    model = mtv.build_model(cfg, classes=train.classes)
    trainer = mtv.Trainer(model, cfg, run_dir=folder, progress=False, callbacks=callbacks)
    trainer.fit(train, val, resume=True)
    metrics = trainer.evaluate(val, protocol=PROTOCOLS)
    rank = int(os.environ.get("RANK", "0"))
    (folder / f"evaluated-{rank}.json").write_text(json.dumps(metrics))
    torch.save(model.state_dict(), folder / f"weights-{rank}.pt")


def run_cut(folder, values, step=4):
    """Train up to a step in the midst of the second epoch."""
    cfg = mtv.Config(**CONFIG).replace(values)
    train = PartlyAnnotated("train")
    model = mtv.build_model(cfg, classes=train.classes)
    trainer = mtv.Trainer(model, cfg, run_dir=folder, progress=False, callbacks=[Cuts(step)])
    try:
        trainer.fit(train, PartlyAnnotated("val"))
    except CutError:
        return
    raise AssertionError("the run was not cut")


def run_sharding(folder):
    """A sharded run, the same one cut off and taken up again, and one that a process alone began."""
    run(folder / "whole", SHARDED, [Shares(folder)])
    run_cut(folder / "cut", SHARDED)
    if processes.is_main():
        shutil.copytree(folder / "cut", folder / "left")  # for a process alone
    processes.wait()
    run(folder / "cut", SHARDED)
    run(folder / "begun", SHARDED)


class Reads:
    """A data set that notes which of its samples are read."""

    def __init__(self, data):
        self.data, self.classes, self.reads = data, data.classes, []

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        self.reads.append(index)
        return self.data[index]


def score_together(folder):
    """Score a new model without any training before; each process has what it got, and which images it read."""
    data = PartlyAnnotated("val")
    model, kept = mtv.build_model(CONFIG, classes=data.classes), Reads(data)
    result = mtv.evaluate(model, kept, protocol=PROTOCOLS, batch_size=2, keep_predictions=True)
    content = {
        "shared": processes.number() > 1,
        "own": kept.reads,
        "metrics": result.metrics,
        "per_class": result.per_class,
        "predictions": result.predictions,
    }
    torch.save(content, folder / f"scored-{processes.rank()}.pt")


def main(folder, *values):
    """Train and score as ``key=value`` say; see the module."""
    options = dict(value.split("=", 1) for value in values)
    die = int(options.pop("die", "0"))
    run(Path(folder), {key: json.loads(value) for key, value in options.items()}, [Dies(die)] if die else [])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
