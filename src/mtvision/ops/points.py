"""The points of a feature map, at which an anchor-free head predicts."""

import torch
from torch import Tensor


def grid_points(size: tuple[int, int], stride: int, device: torch.device | None = None) -> Tensor:
    """Return the cell centres of a feature map, row by row: ``(H * W, 3)`` float32 x, y and stride in input pixels.

    Args:
        size: ``(H, W)`` of the feature map.
        stride: of the feature map in pixels of the input.
        device: of the answer.

    Example:
        >>> grid_points((1, 2), 8)
        tensor([[ 4.,  4.,  8.],
                [12.,  4.,  8.]])
    """
    rows, columns = ((torch.arange(length, dtype=torch.float32, device=device) + 0.5) * stride for length in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, stride)], dim=-1).reshape(-1, 3)  # (H * W, 3)
