"""How the detection task puts box, class and centerness losses together."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtvision.assigners.base import Assignment, pad_targets
from mtvision.heads.detection.base import DetectionHead, DetectionMaps, DetectionRecipe
from mtvision.losses.boxes import CoordinateLoss, complete_iou_loss, smooth_l1_box_loss
from mtvision.losses.classification import binary_cross_entropy
from mtvision.ops.boxes import pairwise_iou
from mtvision.ops.points import grid_points
from mtvision.tasks.detection import DetectionTask

CLASSES = 3
SIZE = (32, 48)


class Head(DetectionHead):
    """Says a centerness; its coordinates are the regression times ten, its target 7."""

    recipe = DetectionRecipe(box_weight=1.0, normalize_by="image")

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(6, CLASSES + 5, 1)

    def forward(self, features):
        maps = self.convolution(features[0]).flatten(2).transpose(1, 2)
        points = grid_points(tuple(features[0].shape[-2:]), 8)
        return DetectionMaps(maps[..., :CLASSES], maps[..., CLASSES:-1], points, maps[..., -1])

    def coordinates(self, box_regression, points):
        return box_regression * 10

    def target_coordinates(self, boxes, points):
        return torch.full_like(boxes, 7.0)


class InsideAssigner:
    """Every point inside an object's box learns it, with score 1; the first object wins."""

    def __call__(self, class_logits, boxes, points, targets):
        low, high = targets.boxes[..., None, :2], targets.boxes[..., None, 2:]
        inside = ((points[:, :2] > low) & (points[:, :2] < high)).all(dim=-1) & targets.valid[..., None]  # (N, M, A)
        foreground = inside.any(dim=1)
        index = inside.int().argmax(dim=1)
        return Assignment(foreground, index, foreground.float(), torch.zeros_like(foreground))


class SoftAssigner(InsideAssigner):
    soft = True


def task_of(**options):
    torch.manual_seed(0)
    settings = {"box_loss": complete_iou_loss, "class_loss": binary_cross_entropy, "assigner": InsideAssigner()}
    return DetectionTask(Head(), CLASSES, **{**settings, **options})


def target_of(*objects):
    return {
        "boxes": torch.tensor([box for box, _ in objects], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([label for _, label in objects], dtype=torch.int64),
        "difficult": torch.zeros(len(objects), dtype=torch.bool),
    }


TARGETS = [target_of(([2, 2, 30, 30], 0), ([30, 2, 46, 20], 2)), target_of(([10, 6, 22, 28], 1)), target_of()]


@pytest.fixture
def features():
    return [torch.randn(3, 6, 4, 6, generator=torch.Generator().manual_seed(1))]


def losses_of(task, features, targets):
    return task.loss(task(features, SIZE), targets)


def test_by_image_a_batch_is_the_mean_of_its_images(features):
    task = task_of()
    single = [losses_of(task, [features[0][i : i + 1]], TARGETS[i : i + 1]) for i in range(3)]
    together = losses_of(task, features, TARGETS)
    assert set(together) == {"box", "class", "centerness"}
    for part, value in together.items():
        torch.testing.assert_close(value, sum(parts[part] for parts in single) / 3)
    with_unannotated = losses_of(task, features, [TARGETS[0], TARGETS[1], None])
    for part, value in with_unannotated.items():
        torch.testing.assert_close(value, (single[0][part] + single[1][part]) / 2)


def test_by_batch_every_positive_counts_the_same(features):
    task = task_of(normalize_by="batch")
    output = task(features, SIZE)
    targets = pad_targets(TARGETS, torch.device("cpu"))
    counts = InsideAssigner()(output.class_logits, None, output.points, targets).foreground.sum(dim=1)
    assert counts.tolist()[2] == 0
    assert counts[0] != counts[1]
    by_image = task_of()
    single = [losses_of(by_image, [features[0][i : i + 1]], TARGETS[i : i + 1])["box"] for i in range(2)]
    expected = (single[0] * counts[0] + single[1] * counts[1]) / counts.sum()
    torch.testing.assert_close(task.loss(output, TARGETS)["box"], expected)


def test_centerness_is_learned_at_the_positives_only(features):
    task = task_of(normalize_by="batch")
    output = task(features, SIZE)
    expected, positives = torch.zeros(()), 0
    for image, target in enumerate(TARGETS):
        for point, logit in zip(output.points, output.centerness[image], strict=True):
            x, y = point[:2].tolist()
            for left, top, right, bottom in target["boxes"].tolist():
                if left < x < right and top < y < bottom:
                    horizontal = min(x - left, right - x) / max(x - left, right - x)
                    vertical = min(y - top, bottom - y) / max(y - top, bottom - y)
                    wanted = torch.tensor((horizontal * vertical) ** 0.5)
                    expected = expected + F.binary_cross_entropy_with_logits(logit, wanted)
                    positives += 1
                    break
    torch.testing.assert_close(task.loss(output, TARGETS)["centerness"], expected / positives)


def test_scores_are_the_geometric_mean_of_class_and_centerness(features):
    task = task_of(score_threshold=0.0, nms_threshold=1.0, max_detections=1000)
    output = task(features, SIZE)
    found = task.postprocess(output)[0]["scores"]
    expected = (output.class_logits[0].sigmoid() * output.centerness[0].sigmoid()[:, None]).sqrt()
    torch.testing.assert_close(found[0], expected.max())


def test_coordinate_losses_see_the_heads_own_coordinates(features):
    seen = {}

    def box_loss(predicted, target):
        seen.update(predicted=predicted, target=target)
        return (predicted - target).abs().sum(dim=1)

    task = task_of(box_loss=box_loss)
    output = task(features, SIZE)
    task.loss(output, TARGETS)
    assert not (seen["target"] == 7).any()
    box_loss.on_coordinates = True
    task.loss(output, TARGETS)
    assert (seen["target"] == 7).all()
    own = (output.box_regression * 10).flatten(0, 1)
    learns = (seen["predicted"] == own).all(dim=-1)
    assert learns.sum() == (seen["predicted"] != seen["target"]).any(dim=-1).sum() > 0  # the others: their target


def test_a_loss_that_wants_quality_gets_the_iou_of_the_positives_box(features):
    seen = {}

    def class_loss(logits, targets):
        seen["targets"] = targets
        return binary_cross_entropy(logits, targets)

    task = task_of(class_loss=class_loss)
    output = task(features, SIZE)
    task.loss(output, TARGETS)
    hard = seen["targets"].clone()
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    class_loss.wants_quality = True
    task.loss(output, TARGETS)
    soft = seen["targets"].clone()
    assert not soft.requires_grad
    boxes = task.head.decode(output.box_regression, output.points)
    for image, point, label in hard.nonzero().tolist():
        objects = TARGETS[image]["boxes"][TARGETS[image]["labels"] == label]
        expected = pairwise_iou(objects, boxes[image, point : point + 1]).squeeze()
        torch.testing.assert_close(soft[image, point, label], expected.detach(), atol=1e-5, rtol=1e-5)
    assert ((soft > 0) <= (hard > 0)).all()
    task.assigner = SoftAssigner()
    task.loss(output, TARGETS)
    assert torch.equal(seen["targets"], hard)


@pytest.mark.parametrize("box_loss", [complete_iou_loss, CoordinateLoss(smooth_l1_box_loss)])
@pytest.mark.parametrize("normalize_by", ["batch", "image"])
def test_the_dense_loss_is_that_of_the_positives_picked_out(features, box_loss, normalize_by):
    """Value and gradient are those of a loop over the points that learn an object, as the losses are written down."""
    task = task_of(box_loss=box_loss, normalize_by=normalize_by)
    output = task(features, SIZE)
    regression = output.box_regression.detach().requires_grad_()
    output = output._replace(box_regression=regression)
    targets = pad_targets(TARGETS, torch.device("cpu"))
    boxes = task.head.decode(regression, output.points)
    _, indices, scores, _ = assignment = task.assigner(output.class_logits, boxes, output.points, targets)
    by_image = [scores[image].sum().clamp(min=1) * targets.annotated.sum() for image in range(len(scores))]
    expected = torch.zeros(())
    for image, point in assignment.foreground.nonzero().tolist():
        truth, anchor = targets.boxes[image, indices[image, point]][None], output.points[point : point + 1]
        pair = boxes[image, point][None] / anchor[:, 2:3], truth / anchor[:, 2:3]
        if isinstance(box_loss, CoordinateLoss):
            coordinates = task.head.coordinates(regression[image, point][None], anchor)
            pair = coordinates, task.head.target_coordinates(truth, anchor)
        number = scores.sum() if normalize_by == "batch" else by_image[image]
        expected = expected + task.box_weight * box_loss(*pair).sum() * scores[image, point] / number
    found = task.loss(output, TARGETS)["box"]
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value, regression, retain_graph=True)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_what_a_box_loss_says_off_the_positives_counts_nowhere(features):
    def not_a_number_for_equal_boxes(predicted, target):
        difference = (predicted - target).abs().sum(dim=1)
        return difference * difference / difference

    outputs = []
    for box_loss in (not_a_number_for_equal_boxes, lambda predicted, target: (predicted - target).abs().sum(dim=1)):
        task = task_of(box_loss=box_loss)
        output = task(features, SIZE)
        regression = output.box_regression.detach().requires_grad_()
        value = task.loss(output._replace(box_regression=regression), TARGETS)["box"]
        outputs.append((value, torch.autograd.grad(value, regression)[0]))
    torch.testing.assert_close(outputs[0], outputs[1])
    assert torch.isfinite(outputs[0][0])
