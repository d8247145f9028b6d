"""Trainings of a second: what tests of the loop's switches share."""

import torch
from torch.utils.data import DataLoader

import mtvision as mtv

CONFIG = {
    "system": {"epochs": 1, "device": "cpu", "seed": 3},
    "model": {"backbone": "test_resnet", "dropout_rate": 0.0},
    "training": {
        "batch_size": 4,
        "optimizer": "sgd",
        "lr": 0.01,
        "lr_schedule": "constant",
        "warmup_epochs": 0.0,
        "clip_norm": None,
    },
    "data": {
        "dataset": {"name": "shapes", "num_images": 12, "image_size": 32},
        "image_size": 32,
        "augmentation_level": "none",
    },
}
"""3 batches; nothing in it is drawn but the weights and the order, and the learning rate is always the same."""


def configured(**values):
    """Return the config with values by key, ``__`` for a dot."""
    return mtv.Config(**CONFIG).replace({key.replace("__", "."): value for key, value in values.items()})


def built(cfg, dtype=torch.float32):
    """Return a new model and what it learns from; in double precision two ways to one result differ by 1e-12 or so."""
    data = mtv.build_dataset(cfg, "train")
    return mtv.build_model(cfg, classes=data.classes).to(dtype), data


def fitted(
    cfg, *callbacks, train=None, validate=False, run_dir=None, resume=False, progress=False, dtype=torch.float32
):
    """Train a new model, and return the trainer."""
    model, data = built(cfg, dtype)
    trainer = mtv.Trainer(model, cfg, run_dir=run_dir, progress=progress, callbacks=callbacks)
    val = mtv.build_dataset(cfg, "val") if validate else None
    trainer.fit(data if train is None else train, val, resume=resume)
    return trainer


def parameters(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def statistics(model):
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


def distance(a, b):
    """Return how far two sets of values are apart at most."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def as_loader(batches):
    """Return a loader of these very batches, in this order."""
    return DataLoader(list(batches), batch_size=None)


def batches_of(cfg, number=3):
    loader = mtv.build_loader(cfg, mtv.build_dataset(cfg, "train"), training=True)
    return [batch for batch, _ in zip(loader, range(number), strict=False)]


def without_cpp(monkeypatch):
    """Let ``torch.compile`` do everything but call the C++ compiler; return the list of the graphs that come of it."""
    from torch._dynamo.backends.debugging import aot_eager

    graphs, original = [], torch.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return aot_eager(graph, inputs)

    monkeypatch.setattr(torch, "compile", lambda called: original(called, backend=backend))
    return graphs
