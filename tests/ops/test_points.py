import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from mtvision.ops.points import grid_points


def test_points_are_the_centres_of_the_cells():
    """FCOS's anchors in torchvision lie at the cells' corners; half a stride further are ours."""
    generator = AnchorGenerator(sizes=((8,),), aspect_ratios=((1.0,),))
    (anchors,) = generator(ImageList(torch.zeros(1, 3, 24, 40), [(24, 40)]), [torch.zeros(1, 1, 3, 5)])
    expected = (anchors[:, :2] + anchors[:, 2:]) / 2 + 4
    torch.testing.assert_close(grid_points((3, 5), 8)[:, :2], expected)


def test_third_column_is_the_stride():
    points = grid_points((2, 2), 16)
    assert points.dtype == torch.float32
    assert points[:, 2].tolist() == [16.0] * 4
