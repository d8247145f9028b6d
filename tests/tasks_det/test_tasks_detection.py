import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from mtvision.assigners.base import pad_targets
from mtvision.errors import ConfigError
from mtvision.heads.detection.base import DetectionHead, DetectionMaps, encode_distances
from mtvision.heads.detection.fpn import FPNDetectionHead
from mtvision.losses.boxes import complete_iou_loss
from mtvision.losses.classification import sigmoid_focal_loss
from mtvision.ops.points import grid_points
from mtvision.tasks.detection import DetectionOutput, DetectionTask
from mtvision.types import FeatureInfo

CLASSES = 4
SIZE = (64, 96)


class PointHead(DetectionHead):
    """A user's smallest head: one convolution at stride 8."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(6, CLASSES + 4, 1)

    def forward(self, features):
        maps = self.convolution(features[0]).flatten(2).transpose(1, 2)
        points = grid_points(tuple(features[0].shape[-2:]), 8)
        return DetectionMaps(maps[..., :CLASSES], maps[..., CLASSES:], points)


def task_of(**options):
    torch.manual_seed(0)
    return DetectionTask(PointHead(), CLASSES, complete_iou_loss, sigmoid_focal_loss, **options)


def target_of(boxes, labels, difficult=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    difficult = torch.tensor([False] * len(boxes) if difficult is None else difficult, dtype=torch.bool)
    return {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64), "difficult": difficult}


TARGETS = [
    target_of([[3, 5, 30, 29], [40, 8, 90, 60]], [0, 3]),
    target_of([[10, 12, 22, 40]], [2]),
    target_of([], []),
]


def perfect_output(targets):
    """Logits of 20 and the true box at the point nearest to each object's centre, -20 elsewhere."""
    points = grid_points((SIZE[0] // 8, SIZE[1] // 8), 8)
    logits = torch.full((len(targets), len(points), CLASSES), -20.0)
    regression = torch.zeros(len(targets), len(points), 4)
    for image, target in enumerate(targets):
        for box, label in zip(target["boxes"], target["labels"], strict=True):
            point = ((box[:2] + box[2:]) / 2 - points[:, :2]).norm(dim=1).argmin()
            logits[image, point, label] = 20.0
            regression[image, point] = encode_distances(box, points[point : point + 1])[0]
    return DetectionOutput(logits, regression, points, torch.tensor(SIZE, dtype=torch.float32))


def random_output(task, images=3):
    generator = torch.Generator().manual_seed(1)
    return task([torch.randn(images, 6, SIZE[0] // 8, SIZE[1] // 8, generator=generator)], SIZE)


def test_an_output_set_from_the_truth_scores_one():
    task, metrics = task_of(), task_of().metrics()
    predictions = task.postprocess(perfect_output(TARGETS))
    assert [len(prediction["boxes"]) for prediction in predictions] == [2, 1, 0]
    torch.testing.assert_close(predictions[1]["boxes"], TARGETS[1]["boxes"], atol=1e-3, rtol=0)
    metrics.update(predictions, TARGETS)
    values = metrics.compute()
    assert set(values) == {"map50", "map50_95", "ap50", "ap50_95"}
    assert values[task.main_metric] == 1.0
    assert values["map50_95"] == 1.0
    assert values["ap50"].nan_to_num(-1).tolist() == [1.0, -1.0, 1.0, 1.0]


def test_boxes_come_in_pixels_of_the_original_image():
    sizes = [(128, 192), (64, 96), (32, 48)]
    task = task_of()
    scaled, plain = task.postprocess(perfect_output(TARGETS), sizes), task.postprocess(perfect_output(TARGETS))
    torch.testing.assert_close(scaled[0]["boxes"], plain[0]["boxes"] * 2)
    torch.testing.assert_close(scaled[1]["boxes"], plain[1]["boxes"])
    torch.testing.assert_close(
        task.postprocess(perfect_output(TARGETS), [(64, 192)] * 3)[0]["boxes"],
        plain[0]["boxes"] * torch.tensor([2.0, 1.0, 2.0, 1.0]),
    )


def test_detections_obey_their_limits():
    task = task_of(score_threshold=0.2, nms_threshold=0.5, max_detections=7)
    for prediction in task.postprocess(random_output(task)):
        boxes, scores, labels = prediction["boxes"], prediction["scores"], prediction["labels"]
        assert 0 < len(scores) <= 7
        assert (scores >= 0.2).all()
        assert (scores.diff() <= 0).all()
        assert (boxes >= 0).all()
        assert (boxes[:, [1, 3]] <= SIZE[0]).all()
        assert (boxes[:, [0, 2]] <= SIZE[1]).all()
        same = (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=torch.bool)
        assert (box_iou(boxes, boxes)[same] <= 0.5).all()


def test_loss_equals_the_formula_written_out():
    task = task_of(box_weight=3.0)
    output = random_output(task)
    parts = task.loss(output, TARGETS)
    boxes = task.head.decode(output.box_regression, output.points)
    assigned = task.assigner(output.class_logits, boxes, output.points, pad_targets(TARGETS, torch.device("cpu")))
    class_sum, box_sum = 0.0, 0.0
    for image, target in enumerate(TARGETS):
        truth = torch.zeros(len(output.points), CLASSES)
        for point in assigned.foreground[image].nonzero().flatten().tolist():
            index, score = assigned.object_index[image, point], assigned.scores[image, point]
            truth[point, target["labels"][index]] = score
            pair = boxes[image, point] / 8, target["boxes"][index] / 8
            box_sum += score * complete_iou_loss(pair[0][None], pair[1][None])[0]
        class_sum += sigmoid_focal_loss(output.class_logits[image], truth).sum()
    normalizer = max(float(assigned.scores.sum()), 1.0)
    torch.testing.assert_close(parts["class"], class_sum / normalizer)
    torch.testing.assert_close(parts["box"], 3.0 * box_sum / normalizer)


def test_an_image_that_nobody_annotated_counts_nowhere():
    task = task_of()
    output = random_output(task)
    alone = DetectionOutput(output.class_logits[:1], output.box_regression[:1], output.points, output.image_size)
    with_none, without = task.loss(output, [TARGETS[0], None, None]), task.loss(alone, TARGETS[:1])
    torch.testing.assert_close(with_none, without)
    negative = task.loss(output, [TARGETS[0], TARGETS[2], None])
    assert negative["class"] > without["class"]
    assert negative["box"] == without["box"]


def test_nothing_annotated_is_zero_with_a_gradient_path():
    task = task_of()
    parts = task.loss(random_output(task), [None, None, None])
    assert [part.item() for part in parts.values()] == [0.0, 0.0]
    sum(parts.values()).backward()
    assert task.head.convolution.weight.grad.abs().sum() == 0


def test_difficult_objects_are_no_negatives():
    task = task_of()
    output = perfect_output(TARGETS[:1])
    missing = task.loss(output, [target_of([], [])])
    difficult = task.loss(output, [target_of(TARGETS[0]["boxes"].tolist(), [0, 3], [True, True])])
    assert missing["class"] > 10
    assert difficult["class"] < 1e-3
    assert difficult["box"] == 0


def test_loss_is_float32_under_autocast():
    task = task_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = random_output(task)
        parts = task.loss(output, TARGETS)
    assert output.class_logits.dtype == torch.bfloat16
    assert {part.dtype for part in parts.values()} == {torch.float32}
    assert task.postprocess(output)[0]["boxes"].dtype == torch.float32


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match=r"needs a DetectionHead .* got Linear"):
        DetectionTask(nn.Linear(1, 1), 2, complete_iou_loss, sigmoid_focal_loss)
    with pytest.raises(ValueError, match=r"expected one an image \(3\), got 2"):
        task_of().loss(random_output(task_of()), TARGETS[:2])


def test_a_small_network_learns_four_images_by_heart():
    torch.manual_seed(0)
    images, targets = torch.rand(4, 3, 64, 64) * 0.2, []
    for index, (x, y, w, h) in enumerate([(4, 6, 24, 20), (30, 8, 28, 30), (10, 28, 16, 32), (36, 40, 20, 18)]):
        images[index, index % 3, y : y + h, x : x + w] += 0.8
        targets.append(target_of([[x, y, x + w, y + h]], [index % 3]))
    torch.manual_seed(0)
    backbone = nn.ModuleList([nn.Conv2d(3, 16, 8, 8), nn.Conv2d(16, 16, 2, 2), nn.Conv2d(16, 16, 2, 2)])
    head = FPNDetectionHead([FeatureInfo(16, 8 * 2**i) for i in range(3)], CLASSES, channels=16)
    task = DetectionTask(head, CLASSES, complete_iou_loss, sigmoid_focal_loss)
    optimizer = torch.optim.AdamW([*backbone.parameters(), *task.parameters()], lr=1e-2)

    def forward():
        features = [backbone[0](images).relu()]
        for block in backbone[1:]:
            features.append(block(features[-1]).relu())
        return task(features, (64, 64))

    for _ in range(60):
        optimizer.zero_grad()
        loss = sum(task.loss(forward(), targets).values())
        loss.backward()
        optimizer.step()
    metrics = task.metrics()
    metrics.update(task.postprocess(forward()), targets)
    assert metrics.compute()["map50"] == 1.0
