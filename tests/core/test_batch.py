"""How a batch travels to a device."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mtvision as mtv
from mtvision.types import Batch, copied_together

DTYPES = [torch.float32, torch.int64, torch.bool, torch.uint8]


def batch_of(counts):
    """Return a batch whose images have so many objects, None for an image that nobody looked at."""
    generator = torch.Generator().manual_seed(0)
    targets = [
        None
        if count is None
        else {
            "boxes": torch.rand(count, 4, generator=generator),
            "labels": torch.randint(0, 5, (count,), generator=generator),
            "difficult": torch.rand(count, generator=generator) < 0.5,
        }
        for count in counts
    ]
    images = torch.randint(0, 256, (len(counts), 3, 96, 96), dtype=torch.uint8, generator=generator)
    masks = torch.randint(0, 21, (len(counts), 96, 96), generator=generator)
    return Batch(images, {"seg": masks, "det": targets, "scene": [torch.tensor(3), None]}, [], [], {})


@given(st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 90), max_size=3)), max_size=8))
def test_copies_together_are_the_copies_one_by_one(kinds):
    tensors = [torch.arange(torch.tensor(shape).prod()).reshape(shape).to(dtype) for dtype, shape in kinds if shape]
    before = [tensor.clone() for tensor in tensors]
    copies = copied_together(tensors, torch.clone)
    for copy, tensor, old in zip(copies, tensors, before, strict=True):
        assert torch.equal(copy, tensor)
        assert torch.equal(tensor, old)
        assert (copy.shape, copy.dtype) == (tensor.shape, tensor.dtype)
        assert copy.numel() == 0 or copy.data_ptr() != tensor.data_ptr()


@pytest.mark.parametrize("counts", [[3, None], [0, 0], [None, None]])
def test_a_batch_is_copied_in_few_pieces_whatever_the_number_of_images(counts):
    batch, calls = batch_of([*counts, *[2] * 60]), []

    def copy(tensor):
        calls.append(tensor)
        return tensor.clone()

    copied = batch._copied(copy)
    assert len(calls) == 2 + 3  # images, masks; boxes, labels with the scene, difficult
    assert torch.equal(copied.images, batch.images)
    assert torch.equal(copied.targets["seg"], batch.targets["seg"])
    for mine, theirs in zip(copied.targets["det"], batch.targets["det"], strict=True):
        assert (mine is None) == (theirs is None)
        assert mine is None or all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert copied.targets["scene"][0] == 3
    assert copied.targets["scene"][1] is None


def test_a_batch_that_is_there_already_is_not_copied():
    batch = batch_of([1])
    assert batch.to(torch.device("cpu")) is batch


def test_a_batch_changes_the_device_of_images_and_targets():
    moved = batch_of([1, None]).to(torch.device("meta"))
    assert {moved.images.device.type, moved.targets["seg"].device.type} == {"meta"}
    assert moved.targets["det"][0]["boxes"].device.type == "meta"
    assert moved.targets["det"][0]["boxes"].shape == (1, 4)


def test_masks_that_travel_as_bytes_arrive_as_int64():
    batch = batch_of([1, None])
    small = replace(batch, targets={**batch.targets, "seg": batch.targets["seg"].to(torch.uint8)})
    arrived = small.to(torch.device("cpu"))
    assert arrived.targets["seg"].dtype == torch.int64
    assert torch.equal(arrived.targets["seg"], batch.targets["seg"])
    assert arrived.targets["det"] is small.targets["det"]
    assert small.targets["seg"].dtype == torch.uint8  # the batch that was moved is as it was
    assert small.to(torch.device("meta")).targets["seg"].dtype == torch.int64


def test_a_segmentation_loss_takes_masks_of_bytes():
    """Whoever moves images and targets to a device by an own line does not call `Batch.to`."""
    model = mtv.build_model({"backbone": "test_resnet", "detection_head": None, "num_classes": {"seg": 21, "det": 20}})
    masks = batch_of([1, 1]).targets["seg"]
    outputs = model(torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)))
    expected = model.loss(outputs, {"seg": masks})["seg"]
    found = model.loss(outputs, {"seg": masks.to(torch.uint8)})["seg"]
    assert torch.equal(found["segmentation"], expected["segmentation"])
