"""What a backbone is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from mtvision.types import FeatureInfo


class Backbone(nn.Module, ABC):
    """Images to features, finest first.

    Attributes:
        feature_info: channels and stride of each feature, in the order in which ``forward`` returns them.

    Example:
        >>> import torch
        >>> class Shrink(Backbone):
        ...     feature_info = (FeatureInfo(8, 4),)
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.convolution = nn.Conv2d(3, 8, 4, stride=4)
        ...     def forward(self, images: Tensor) -> list[Tensor]:
        ...         return [self.convolution(images)]
        >>> Shrink()(torch.zeros(1, 3, 64, 64))[0].shape
        torch.Size([1, 8, 16, 16])
    """

    feature_info: tuple[FeatureInfo, ...]

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """Map normalized images ``(N, 3, H, W)`` to features ``(N, K, h, w)``, h and w near H and W over the stride."""
