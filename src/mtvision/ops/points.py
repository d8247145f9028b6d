"""The points of a feature map, at which a detection head predicts."""

import torch
from torch import Tensor


def grid_points(
    size: tuple[int, int], stride: int, device: torch.device | None = None, *, offset: float = 0.5
) -> Tensor:
    """Return a point for each cell of a feature map, row by row: ``(H * W, 3)`` float32 x, y, stride in input pixels.

    Args:
        size: ``(H, W)`` of the feature map.
        stride: of the feature map in pixels of the input.
        device: of the answer.
        offset: from a cell's top left corner to its point, in strides: 0.5 is the centre, 0 the corner itself.

    Example:
        >>> grid_points((1, 2), 8)
        tensor([[ 4.,  4.,  8.],
                [12.,  4.,  8.]])
        >>> grid_points((1, 2), 8, offset=0.0)
        tensor([[0., 0., 8.],
                [8., 0., 8.]])
    """
    rows, columns = ((torch.arange(length, dtype=torch.float32, device=device) + offset) * stride for length in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, stride)], dim=-1).reshape(-1, 3)  # (H * W, 3)
