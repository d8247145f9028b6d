"""Tasks and a backbone so small that one can work out what they do."""

from typing import ClassVar

import torch
from torch import nn

import mtvision as mtv
from mtvision.tasks.base import Task
from mtvision.types import Batch, FeatureInfo


class ToyBackbone(nn.Module):
    """Shrinks the image by four; the one shared layer."""

    feature_info = (FeatureInfo(8, 4),)

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, images):
        return [self.convolution(images)]


class ToyNeck(nn.Module):
    """A 1 x 1 convolution to 4 channels."""

    def __init__(self):
        super().__init__()
        self.lateral = nn.Conv2d(8, 4, 1, bias=False)

    def forward(self, features):
        return [self.lateral(features[0])]


class ToyTask(Task):
    """Its loss is the sum of the means of each channel, times ``direction``; 0 where nobody looked.

    So its gradient on the bias of the backbone is ``direction`` itself.
    """

    main_metric: ClassVar[str] = "toy"

    def __init__(self, direction):
        super().__init__()
        self.direction = torch.tensor(direction)

    def forward(self, features, image_size):
        return features[0]

    def select(self, annotations, name):
        return annotations.get(name, True)

    def loss(self, output, target):
        known = 1.0 if target else 0.0
        return {"toy": (output.mean(dim=(0, 2, 3)) * self.direction).sum() * known}

    def postprocess(self, output, image_sizes=None):
        return list(output)

    def metrics(self):
        raise NotImplementedError


class ToyHead(ToyTask):
    """With a convolution of its own, ``channels`` to 2."""

    def __init__(self, channels):
        super().__init__([1.0, 1.0])
        self.head = nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, features, image_size):
        return self.head(features[0])


def toy_model(neck=None, neck_tasks=None, **tasks):
    torch.manual_seed(0)
    return mtv.MultiTaskModel(ToyBackbone(), tasks, neck=neck, neck_tasks=neck_tasks, image_size=(16, 16))


def toy_batch(**targets):
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return Batch(images, targets, ["a", "b"], [(16, 16)] * 2, {})
