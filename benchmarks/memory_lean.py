"""A joint model in plain torch, no heavier than a step needs: what the memory of ours is held against.

A timm backbone, a feature pyramid of 64 channels at the strides 8 to 128, one convolution and a classifier for the
masks, and for the boxes towers that all levels share, as in FCOS (Tian et al. 2019, arXiv 1904.01355). The losses are
cross-entropy, focal loss (Lin et al. 2017, arXiv 1708.02002), GIoU (Rezatofighi et al. 2019, arXiv 1902.09630) and
binary cross-entropy of the centre-ness, over whole batches, without a loop over images.
"""

from collections.abc import Sequence
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from mtvision.types import DetectionTarget

_CHANNELS = 64
_STRIDES = (8, 16, 32, 64, 128)
_NO_AREA = 1e8


class LeanOutput(NamedTuple):
    """Logits of masks ``(N, C, H, W)``; of boxes ``(N, A, C)``, ``(N, A, 4)``, ``(N, A)`` at points ``(A, 3)``."""

    masks: Tensor
    classes: Tensor
    distances: Tensor
    centerness: Tensor
    points: Tensor


class LeanModel(nn.Module):
    """A shared backbone, a pyramid and two heads.

    Args:
        backbone: name of a timm model with features at the strides 8, 16 and 32.
        num_masks: classes of the masks.
        num_boxes: classes of the boxes.
    """

    def __init__(self, backbone: str, num_masks: int, num_boxes: int) -> None:
        super().__init__()
        self.backbone = timm.create_model(backbone, features_only=True, pretrained=False)
        reductions, channels = self.backbone.feature_info.reduction(), self.backbone.feature_info.channels()
        self.levels = [reductions.index(stride) for stride in _STRIDES[:3]]
        self.lateral = nn.ModuleList(nn.Conv2d(channels[level], _CHANNELS, 1) for level in self.levels)
        self.coarser = nn.ModuleList(nn.Conv2d(_CHANNELS, _CHANNELS, 3, stride=2, padding=1) for _ in _STRIDES[3:])
        self.mask_head = nn.Sequential(*_block(), nn.Conv2d(_CHANNELS, num_masks, 1))
        self.class_tower, self.box_tower = nn.Sequential(*_block(), *_block()), nn.Sequential(*_block(), *_block())
        self.to_class = nn.Conv2d(_CHANNELS, num_boxes, 3, padding=1)
        self.to_box = nn.Conv2d(_CHANNELS, 5, 3, padding=1)
        nn.init.constant_(self.to_class.bias, -4.6)  # type: ignore[arg-type]  # a prior of 0.01

    def forward(self, images: Tensor) -> LeanOutput:
        """Return the logits of images in [0, 1], ``(N, 3, H, W)``."""
        maps = self._pyramid(images)
        masks = F.interpolate(self.mask_head(maps[0]), images.shape[-2:], mode="bilinear")
        classes = torch.cat([_rows(self.to_class(self.class_tower(each))) for each in maps], dim=1)
        boxes = torch.cat([_rows(self.to_box(self.box_tower(each))) for each in maps], dim=1)
        points = torch.cat([_points(each, stride) for each, stride in zip(maps, _STRIDES, strict=True)])
        return LeanOutput(masks, classes, boxes[..., :4].exp(), boxes[..., 4], points)

    def _pyramid(self, images: Tensor) -> list[Tensor]:
        features = self.backbone(images)
        maps = [lateral(features[level]) for lateral, level in zip(self.lateral, self.levels, strict=True)]
        for finer in (1, 0):
            maps[finer] = maps[finer] + F.interpolate(maps[finer + 1], maps[finer].shape[-2:])
        for coarser in self.coarser:
            maps.append(coarser(maps[-1]))
        return maps


def lean_loss(output: LeanOutput, masks: Tensor, targets: Sequence[DetectionTarget]) -> Tensor:
    """Return the sum of all losses; 255 in ``masks`` is void."""
    points, strides = output.points[:, :2], output.points[:, 2]
    boxes = nn.utils.rnn.pad_sequence([target["boxes"] for target in targets], batch_first=True)  # (N, M, 4)
    labels = nn.utils.rnn.pad_sequence([target["labels"] for target in targets], batch_first=True, padding_value=-1)
    boxes, labels = F.pad(boxes, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=-1)  # one that is none: M is never 0
    owners = assigned(points, strides, boxes, labels >= 0)  # (N, A), -1: none
    positive = owners >= 0
    image, point = positive.nonzero(as_tuple=True)
    owner = owners[image, point]
    wanted = torch.zeros_like(output.classes)
    wanted[image, point, labels[image, owner]] = 1.0
    count = max(len(image), 1)
    focal = sigmoid_focal_loss(output.classes, wanted, reduction="sum") / count
    at, side = points[point], output.distances[image, point] * strides[point, None]
    truth = boxes[image, owner]
    found = torch.cat([at - side[:, :2], at + side[:, 2:]], dim=-1)
    edges = torch.cat([at - truth[:, :2], truth[:, 2:] - at], dim=-1).view(-1, 2, 2)
    centered = (edges.amin(dim=1) / edges.amax(dim=1)).prod(dim=-1).sqrt()
    overlap = generalized_box_iou_loss(found, truth, reduction="sum") / count
    quality = F.binary_cross_entropy_with_logits(output.centerness[image, point], centered, reduction="sum") / count
    total: Tensor = F.cross_entropy(output.masks, masks, ignore_index=255) + focal + overlap + quality
    return total


def assigned(points: Tensor, strides: Tensor, boxes: Tensor, is_box: Tensor) -> Tensor:
    """Return for each point ``(N, A)`` the smallest box that it lies in and whose size its level has, -1 where none."""
    low = torch.where(strides == _STRIDES[0], 0.0, strides * 4)
    high = torch.where(strides == _STRIDES[-1], torch.inf, strides * 8)
    before = points[None, :, None] - boxes[:, None, :, :2]  # (N, A, M, 2)
    after = boxes[:, None, :, 2:] - points[None, :, None]
    edges = torch.cat([before, after], dim=-1)
    reach = edges.amax(dim=-1)
    fits = (edges.amin(dim=-1) > 0) & (reach > low[:, None]) & (reach <= high[:, None]) & is_box[:, None]
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)[:, None].expand_as(reach)
    smallest, owner = areas.masked_fill(~fits, _NO_AREA).min(dim=-1)
    return owner.masked_fill(smallest == _NO_AREA, -1)


def _block() -> list[nn.Module]:
    return [nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False), nn.GroupNorm(8, _CHANNELS), nn.ReLU(True)]


def _rows(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)  # (N, A, K)


def _points(feature: Tensor, stride: int) -> Tensor:
    rows, columns = (
        (torch.arange(length, device=feature.device, dtype=torch.float32) + 0.5) * stride
        for length in feature.shape[-2:]
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, stride)], dim=-1).reshape(-1, 3)
