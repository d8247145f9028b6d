import pytest
import torch
from torch import nn

from mtvision.errors import ConfigError
from mtvision.losses.segmentation import CrossEntropy, Focal
from mtvision.tasks.base import Task
from mtvision.tasks.segmentation import SegmentationOutput, SegmentationTask
from mtvision.types import VOID


class FirstFeature(nn.Module):
    def forward(self, features):
        return features[0]


def make_task(num_classes=3, loss=None):
    return SegmentationTask(FirstFeature(), num_classes, loss or CrossEntropy())


def logits_of(mask, num_classes=3):
    return nn.functional.one_hot(mask, num_classes).movedim(-1, 1).float() * 20


def test_forward_brings_logits_to_the_image_size():
    features = torch.randn(2, 3, 8, 8)
    output = make_task()([features], (61, 64))
    assert isinstance(output, SegmentationOutput)
    assert output.logits.shape == (2, 3, 61, 64)
    expected = nn.functional.interpolate(features, size=(61, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(output.logits, expected)


@pytest.mark.parametrize("loss", [CrossEntropy(), Focal()])
def test_loss_is_the_loss_it_was_given(loss):
    output = SegmentationOutput(torch.randn(2, 3, 6, 5))
    mask = torch.randint(0, 3, (2, 6, 5))
    parts = make_task(loss=loss).loss(output, mask)
    assert set(parts) == {"segmentation"}
    torch.testing.assert_close(parts["segmentation"], loss(output.logits, mask))


def test_only_annotated_images_count():
    logits = torch.randn(2, 3, 6, 5)
    mask = torch.randint(0, 3, (2, 6, 5))
    half = mask.clone()
    half[1] = VOID
    task = make_task()
    both = task.loss(SegmentationOutput(logits), half)["segmentation"]
    torch.testing.assert_close(both, task.loss(SegmentationOutput(logits[:1]), mask[:1])["segmentation"])


def test_a_truth_made_into_logits_comes_back():
    torch.manual_seed(0)
    mask = torch.randint(0, 3, (2, 16, 12))
    predictions = make_task().postprocess(SegmentationOutput(logits_of(mask)))
    assert torch.equal(torch.stack(predictions), mask)
    assert predictions[0].dtype == torch.int64


def test_postprocess_gives_each_image_its_own_size():
    mask = torch.zeros(2, 8, 8, dtype=torch.int64)
    mask[0, :, 4:] = 2
    mask[1, 2:] = 1
    left, below = make_task().postprocess(SegmentationOutput(logits_of(mask)), [(16, 32), (33, 8)])
    assert left.shape == (16, 32)
    assert below.shape == (33, 8)
    assert left[:, :15].eq(0).all()
    assert left[:, 17:].eq(2).all()
    assert below[10:].eq(1).all()


def test_a_flipped_image_gives_the_flipped_mask():
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 9, 12)
    task = make_task()
    (plain,) = task.postprocess(SegmentationOutput(logits), [(20, 31)])
    (flipped,) = task.postprocess(SegmentationOutput(logits.flip(-1)), [(20, 31)])
    assert (flipped.flip(-1) == plain).float().mean() > 0.99  # ties may fall either way


def test_perfect_outputs_score_one():
    torch.manual_seed(0)
    mask = torch.randint(0, 3, (2, 16, 12))
    truth = mask.clone()
    truth[:, :3] = VOID
    task = make_task()
    metrics = task.metrics()
    metrics.update(task.postprocess(SegmentationOutput(logits_of(mask))), list(truth))
    numbers = metrics.compute()
    assert set(numbers) == {"miou", "pixel_accuracy", "iou"}
    assert numbers["miou"] == numbers["pixel_accuracy"] == 1
    assert torch.equal(numbers["iou"], torch.ones(3))
    assert task.main_metric in numbers


def test_construction_checks_the_loss():
    with pytest.raises(ConfigError, match=r"class_weights: must have one entry a class \(3\), got 2"):
        make_task(loss=CrossEntropy(class_weights=[1.0, 2.0]))


def test_is_a_task_whose_loss_moves_with_it():
    task = make_task(loss=CrossEntropy(class_weights=[1.0, 2.0, 3.0]))
    assert isinstance(task, Task)
    assert task.to("meta").criterion.class_weights.device.type == "meta"


def test_any_function_is_a_loss():
    task = make_task(loss=lambda logits, _: logits.mean())
    output = SegmentationOutput(torch.ones(1, 3, 2, 2))
    assert task.loss(output, torch.zeros(1, 2, 2, dtype=torch.int64)) == {"segmentation": torch.tensor(1.0)}
