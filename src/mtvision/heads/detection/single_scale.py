"""The baseline among detection heads: one feature, no pyramid."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from mtvision.heads.detection.base import DetectionMaps, DetectionRecipe
from mtvision.heads.detection.towers import Levels, LightTowerHead
from mtvision.layers.features import select_strides
from mtvision.registries import DETECTION_HEADS
from mtvision.types import FeatureInfo

_WHO = "detection head 'single_scale'"
_STRIDE = 16


@DETECTION_HEADS.register("single_scale")
class SingleScaleDetectionHead(LightTowerHead):
    """`fpn` on one feature: what is left without several scales (the C4 layout of Ren et al. 2015, arXiv 1506.01497).

    A 3 x 3 convolution to ``channels``, as a level of a pyramid has it, then `fpn`'s towers. All else is as in `fpn`:
    the difference of the two is what several scales bring.

    Args:
        feature_info: of the backbone or neck.
        num_classes: without background.
        stride: of the feature; None: 16, or the coarsest where there is none of 16. 16 is the middle of `fpn`'s 8, 16
            and 32, and what detectors of one scale used: at 8 the features see too little of a large object, at 32
            neighbouring objects share a cell.
        channels: of the feature and the towers.
        num_convs: convolutions in each of the two towers.
        dropout_rate: share of channels dropped before the class predictor in training.
        prior_probability: of a class at a point before training (Lin et al. 2017, RetinaNet, arXiv 1708.02002).

    Raises:
        ConfigError: if there is no feature of ``stride``.

    Example:
        >>> import torch
        >>> head = SingleScaleDetectionHead([FeatureInfo(8, 8), FeatureInfo(16, 16)], 3)
        >>> head([torch.zeros(2, 8, 8, 12), torch.zeros(2, 16, 4, 6)]).class_logits.shape
        torch.Size([2, 24, 3])
    """

    recipe: ClassVar[DetectionRecipe] = DetectionRecipe()

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        num_classes: int,
        *,
        stride: Annotated[int, Field(ge=1)] | None = None,
        channels: Annotated[int, Field(ge=1)] = 64,
        num_convs: Annotated[int, Field(ge=0)] = 1,
        dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        prior_probability: Annotated[float, Field(gt=0, lt=1)] = 0.01,
    ) -> None:
        chosen = _default_stride(feature_info) if stride is None else stride
        (index,) = select_strides(feature_info, [chosen], _WHO)
        super().__init__(
            Levels(indices=(0,), strides=(chosen,), channels=channels),
            num_classes,
            _WHO,
            channels=None,
            num_convs=num_convs,
            dropout_rate=dropout_rate,
            prior_probability=prior_probability,
        )
        self.index = index
        self.projection = nn.Conv2d(feature_info[index].channels, channels, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> DetectionMaps:
        """Return logits, regression and points of the feature ``(N, K, H, W)`` of the head's stride."""
        return super().forward([self.projection(features[self.index])])


def _default_stride(feature_info: Sequence[FeatureInfo]) -> int:
    strides = {info.stride for info in feature_info}
    return _STRIDE if _STRIDE in strides else max(strides)
