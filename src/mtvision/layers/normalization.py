"""The input layer: from RGB images to what the backbone was trained on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class InputNormalization(nn.Module):
    """Map RGB images, uint8 or float in [0, 1], to ``(x - mean) / std``.

    Mean and standard deviation are buffers: a checkpoint or exported file is complete in itself, and nobody normalises
    twice.

    Args:
        mean: of the channels R, G, B for values in [0, 1]; None where they are the data set's own and not known yet:
            ``pending`` is then True and ImageNet's stand in until `set_statistics` or a checkpoint brings them.
        std: likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        super().__init__()
        self.pending = mean is None or std is None
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN if mean is None else mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD if std is None else std).view(3, 1, 1))
        self.register_load_state_dict_post_hook(_mark_known)  # type: ignore[no-untyped-call]

    def set_statistics(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set mean and standard deviation of values in [0, 1]."""
        self.mean.copy_(self.mean.new_tensor(mean).view(3, 1, 1))
        self.std.copy_(self.std.new_tensor(std).view(3, 1, 1))
        self.pending = False

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images ``(N, 3, H, W)``."""
        values = images.to(self.mean.dtype) / 255 if images.dtype == torch.uint8 else images
        return (values - self.mean) / self.std


def _mark_known(module: nn.Module, incompatible_keys: Any) -> None:
    if isinstance(module, InputNormalization) and not any("mean" in key for key in incompatible_keys.missing_keys):
        module.pending = False
