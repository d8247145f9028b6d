"""The training steps whose memory is compared; each is measured in a process of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import peers
import torch
from common import feature_loss, sum_of_parts
from memory_lean import LeanModel, lean_loss
from memory_meter import PeakMemory
from torch import Tensor, nn

import mtvision as mtv

OURS, PLAIN, LEAN, BACKBONE = "Trainer.fit", "plain loop, our model", "plain loop, lean model", "backbone alone"


@dataclass(frozen=True)
class Setting:
    """What is trained, and on what."""

    backbone: str = "resnet18"
    size: int = 256
    batch: int = 8
    steps: int = 3
    device: str = "cpu"

    @property
    def config(self) -> mtv.Config:
        """That of ``Trainer``, of the loader, and of what `build_model` makes; one epoch has all the steps."""
        images = self.batch * self.steps
        return mtv.Config(
            system={"epochs": 1, "device": self.device},
            model={"backbone": self.backbone},
            training={"batch_size": self.batch},
            data={
                "dataset": {"name": "shapes", "num_images": images, "image_size": self.size},
                "image_size": self.size,
            },
        )


@dataclass(frozen=True)
class Data:
    """Images that are there before memory is looked at."""

    samples: Sequence[mtv.Sample]
    classes: mtv.Classes


def step_memory(variant: str, setting: Setting) -> int:
    """Return the bytes that training from scratch holds at most: weights, gradients, AdamW's state, activations."""
    train = variants(setting)[variant]
    small = replace(setting, size=64, batch=2, steps=2)
    train(small, data_of(small))  # loads all modules, starts all threads
    data = data_of(setting)
    with PeakMemory(setting.device) as peak:
        train(setting, data)
    return peak.bytes


def data_of(setting: Setting) -> Data:
    data = mtv.build_dataset(setting.config, "train")
    return Data([data[index] for index in range(len(data))], data.classes)


def variants(setting: Setting) -> dict[str, Callable[[Setting, Data], None]]:
    """Return the trainings by name, first those that are always there."""
    found: dict[str, Callable[[Setting, Data], None]] = {
        BACKBONE: train_backbone,
        LEAN: train_lean,
        PLAIN: train_plainly,
        OURS: train_by_trainer,
    }
    if setting.backbone.startswith("resnet"):  # the peers know few others
        if peers.has_smp():
            found["smp U-Net"] = train_segmenter
        found["torchvision FCOS"] = train_detector
    return found


def train_by_trainer(setting: Setting, data: Data) -> None:
    model = mtv.build_model(setting.config, classes=data.classes)
    mtv.Trainer(model, setting.config, progress=False).fit(data.samples)


def train_plainly(setting: Setting, data: Data) -> None:
    model = mtv.build_model(setting.config, classes=data.classes)

    loop(setting, data, model, lambda b: sum_of_parts(model.loss(model(b.images), b.targets)))


def train_lean(setting: Setting, data: Data) -> None:
    model = LeanModel(setting.backbone, len(data.classes.segmentation), len(data.classes.detection))
    loop(setting, data, model, lambda b: lean_loss(model(b.images / 255), b.targets["seg"], b.targets["det"]))


def train_backbone(setting: Setting, data: Data) -> None:
    model = mtv.build_model(setting.config, classes=data.classes)
    network = nn.Sequential(model.normalization, model.backbone)
    loop(setting, data, network, lambda b: feature_loss(network(b.images)))


def train_segmenter(setting: Setting, data: Data) -> None:
    model = peers.segmenter("smp U-Net", setting.backbone, len(data.classes.segmentation))
    loop(setting, data, model, lambda b: peers.segmentation_loss(model, b.images / 255, b.targets["seg"])())


def train_detector(setting: Setting, data: Data) -> None:
    model = peers.detector("torchvision FCOS", setting.backbone, len(data.classes.detection), setting.size)
    loop(setting, data, model, lambda b: peers.detection_loss(model, b.images / 255, b.targets["det"])())


def loop(setting: Setting, data: Data, model: nn.Module, loss: Callable[[Any], Tensor]) -> None:
    """Train by hand, and hold nothing from one step to the next but weights and AdamW's state."""
    loader = mtv.build_loader(setting.config, data.samples, training=True)
    device = torch.device(setting.device)
    optimizer = torch.optim.AdamW(model.to(device).train().parameters(), lr=1e-4)
    for batch in loader:
        loss(batch.to(device)).backward()
        optimizer.step()
        optimizer.zero_grad()
