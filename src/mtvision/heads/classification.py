"""The head of image classification."""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from mtvision.layers.features import select_strides
from mtvision.types import FeatureInfo

PRIOR = 0.1
"""Share of the images that a class is in, where nothing is known: VOC's images have 1.5 of 20 classes."""


class PooledClassifier(nn.Module):
    """One linear layer on the mean of a feature over all of its cells (Lin et al. 2013, arXiv 1312.4400).

    Args:
        feature_info: of the backbone or neck.
        num_classes: C.
        dropout_rate: probability of zeroing a channel of the mean.
        stride: of the feature; None: the coarsest.
        prior_probability: of every class before training (Lin et al. 2017, RetinaNet, arXiv 1708.02002).

    Raises:
        ConfigError: if there is no feature of ``stride``.

    Example:
        >>> import torch
        >>> head = PooledClassifier([FeatureInfo(8, 16), FeatureInfo(16, 32)], 20)
        >>> head([torch.zeros(2, 8, 4, 6), torch.zeros(2, 16, 2, 3)]).shape
        torch.Size([2, 20])
    """

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        num_classes: int,
        *,
        dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        stride: Annotated[int, Field(ge=1)] | None = None,
        prior_probability: Annotated[float, Field(gt=0, lt=1)] = PRIOR,
    ) -> None:
        super().__init__()
        chosen = max(info.stride for info in feature_info) if stride is None else stride
        (self.index,) = select_strides(feature_info, [chosen], "the classification head")
        self.prior_probability = prior_probability
        self.dropout = nn.Dropout(dropout_rate)
        self.score = nn.Linear(feature_info[self.index].channels, num_classes)
        self.reset_prior()

    def reset_prior(self) -> None:
        """Set the bias so that every class starts at ``prior_probability``: -log((1 - p) / p)."""
        prior = self.prior_probability
        nn.init.constant_(self.score.bias, -math.log((1 - prior) / prior))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features, finest first, to logits ``(N, C)``."""
        logits: Tensor = self.score(self.dropout(features[self.index].mean(dim=(2, 3))))
        return logits
