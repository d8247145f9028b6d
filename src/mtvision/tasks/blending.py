"""One map of an image from several that each cover a part of it, without seams."""

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

Size: TypeAlias = tuple[int, int]


class Region(NamedTuple):
    """A rectangle of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.height, self.width

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Its edges, xyxy."""
        return self.left, self.top, self.left + self.width, self.top + self.height


class PixelMean:
    """A weighted mean of maps that each cover a part of an image.

    Where windows overlap, each weighs less the nearer a pixel is to a border of it that lies within the image, as
    ``sin²``, so that no seam is seen; see `border_weights`. One sum ``(K, H, W)`` is held, whatever the number of maps.

    Args:
        size: ``(H, W)`` of the image.

    Example:
        >>> mean = PixelMean((2, 2))
        >>> mean.add(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), Region(0, 0, 2, 2))
        >>> mean.add(torch.tensor([[[3.0, 2.0], [3.0, 6.0]]]), Region(0, 0, 2, 2))
        >>> mean.value().tolist()
        [[[2.0, 2.0], [3.0, 5.0]]]
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self._sum = torch.empty(0)
        self._weight = torch.empty(0)

    def add(self, values: Tensor, region: Region) -> None:
        """Add a map ``(K, h, w)`` of a region."""
        if not self._weight.numel():
            self._sum = values.new_zeros((len(values), *self.size), dtype=torch.float32)
            self._weight = values.new_zeros(self.size, dtype=torch.float32)
        weights = border_weights(region, self.size).to(values.device)
        left, top, right, bottom = region.box
        self._sum[:, top:bottom, left:right] += values * weights
        self._weight[top:bottom, left:right] += weights

    def value(self) -> Tensor:
        """Return the mean ``(K, H, W)``; where no map was added it is NaN."""
        return self._sum / self._weight

    def largest(self) -> Tensor:
        """Return the largest of the K means at each pixel, ``(H, W)``; no second ``(K, H, W)`` is made for it."""
        return self._sum.amax(dim=0) / self._weight

    def index_of_largest(self) -> Tensor:
        """Return which of the K means is the largest at each pixel, int64 ``(H, W)``."""
        return self._sum.argmax(dim=0)


def border_weights(region: Region, image_size: Size) -> Tensor:
    """Return what each pixel of a region weighs, float32 ``(h, w)`` in (0, 1].

    Along each axis it is ``sin²(π/2 · d / (side / 2))``, d being how far the pixel's centre is from the region's border
    within the image, and 1 from the middle on. A border of the image does not count: there is no other view beyond it.

    Example:
        >>> border_weights(Region(0, 0, 1, 4), (1, 4))
        tensor([[1., 1., 1., 1.]])
        >>> border_weights(Region(0, 0, 1, 4), (1, 9))
        tensor([[1.0000, 1.0000, 0.8536, 0.1464]])
    """
    left, top, right, bottom = region.box
    rows = _axis_weights(region.height, top > 0, bottom < image_size[0])
    columns = _axis_weights(region.width, left > 0, right < image_size[1])
    return rows[:, None] * columns


def _axis_weights(length: int, starts_within: bool, ends_within: bool) -> Tensor:
    distance = torch.full((length,), float(length))
    centres = torch.arange(length) + 0.5
    if starts_within:
        distance = torch.minimum(distance, centres)
    if ends_within:
        distance = torch.minimum(distance, length - centres)
    return (distance / length).clamp(max=0.5).mul(torch.pi).sin().square()
