"""A training step asks the device for no value: on a GPU each would be a wait.

The meta device has no values: whoever asks for one gets an exception there.
"""

import pytest
import torch

import mtvision as mtv

META = torch.device("meta")


def step(model, device, num_objects=(3, 0, None)):
    """Do forward, loss and backward on a device."""
    size, images = 64, len(num_objects)
    objects = [
        None
        if number is None
        else {
            "boxes": torch.tensor([[4.0, 4.0, 40.0, 30.0]] * number).reshape(-1, 4).to(device),
            "labels": torch.zeros(number, dtype=torch.int64, device=device),
            "difficult": torch.zeros(number, dtype=torch.bool, device=device),
        }
        for number in num_objects
    ]
    masks = torch.zeros((images, size, size), dtype=torch.int64, device=device)
    pixels = torch.zeros((images, 3, size, size), dtype=torch.uint8, device=device)
    losses = model.to(device).train().loss(model(pixels), {"seg": masks, "det": objects})
    total = torch.stack([part for parts in losses.values() for part in parts.values()]).sum()
    total.backward()
    return total


def built(model=None, **training):
    return mtv.build_model(mtv.Config(model={"backbone": "test_resnet", **(model or {})}, training=training))


@pytest.mark.parametrize("assigner", sorted({*mtv.ASSIGNERS.names()} - {"atss"}))  # which waits once, and says so
@pytest.mark.parametrize("head", mtv.DETECTION_HEADS.names())
def test_no_detection_loss_asks_for_values(head, assigner):
    model = built({"segmentation_head": None, "detection_head": head}, det_assigner=assigner)
    assert step(model, META).device == META
    assert all(parameter.grad is not None for parameter in model.task("det").parameters())


@pytest.mark.parametrize("loss", mtv.CLASSIFICATION_LOSSES.names())
def test_no_class_loss_asks_for_values(loss):
    assert step(built(det_class_loss=loss), META).device == META


@pytest.mark.parametrize("loss", mtv.BOX_LOSSES.names())
def test_no_box_loss_asks_for_values(loss):
    assert step(built(det_loss=loss), META).device == META


@pytest.mark.parametrize("loss", sorted({*mtv.SEGMENTATION_LOSSES.names()} - {"sum"}))
def test_no_segmentation_loss_asks_for_values(loss):
    assert step(built(seg_loss=loss), META).device == META


def test_the_meta_device_notices_who_asks():
    def asking(predicted, target):
        return (predicted - target)[predicted.sum(dim=1) > 0].sum(dim=1)

    model = built()
    model.task("det").box_loss = asking
    with pytest.raises(NotImplementedError):
        step(model, META)
