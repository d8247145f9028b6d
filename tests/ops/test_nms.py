import torch

from mtvision.ops.nms import class_wise_nms


def test_only_the_own_class_suppresses():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 9.0]])
    kept = class_wise_nms(boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 1, 0]), 0.6)
    assert kept.tolist() == [1, 2]


def test_nothing_in_nothing_out():
    assert class_wise_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5).tolist() == []
