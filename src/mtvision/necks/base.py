"""The contract of a neck."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from mtvision.types import FeatureInfo


class Neck(nn.Module, ABC):
    """Features in, features out.

    ``feature_info`` tells channels and stride of each feature it returns, finest first, as a backbone's does: what
    follows cannot know whether it stands behind a neck.

    To export a model, give an example whose coarsest level has more than one row and column: ``torch.export`` takes a
    size of 1 as fixed, and the exported model then refuses images where it is larger, or the other way round.
    """

    feature_info: tuple[FeatureInfo, ...]

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map the features of the backbone ``(N, K, H, W)``, finest first, to those that `feature_info` describes."""
