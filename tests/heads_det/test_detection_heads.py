"""What every registered detection head must do, and what is particular to `fpn`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.export import Dim

import mtvision.heads.detection.fpn  # noqa: F401, registers the head
from mtvision.heads.detection.base import DetectionHead, decode_distances, encode_distances
from mtvision.losses.boxes import complete_iou_loss
from mtvision.losses.classification import sigmoid_focal_loss
from mtvision.ops.points import grid_points
from mtvision.registries import DETECTION_HEADS
from mtvision.tasks.detection import DetectionTask
from mtvision.types import FeatureInfo, SupportsPrior

INFO = [FeatureInfo(4, 4), FeatureInfo(6, 8), FeatureInfo(8, 16), FeatureInfo(10, 32)]
CLASSES = 3
HEADS = pytest.mark.parametrize("name", DETECTION_HEADS.names())


class Backbone(nn.Module):
    """Strided convolutions: the cheapest features that have a gradient and sizes of the input's."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, i.channels, i.stride + 1, i.stride, i.stride // 2) for i in INFO)

    def forward(self, images):
        return [layer(images) for layer in self.layers]


class Network(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.backbone = Backbone()
        head = DETECTION_HEADS.build(name, INFO, CLASSES)
        self.task = DetectionTask(head, CLASSES, complete_iou_loss, sigmoid_focal_loss)

    def forward(self, images):
        return self.task(self.backbone(images), (images.shape[-2], images.shape[-1]))


def network_of(name):
    torch.manual_seed(0)
    return Network(name).eval()


def target_of(boxes):
    count = len(boxes)
    labels = torch.zeros(count, dtype=torch.int64)
    return {"boxes": boxes, "labels": labels, "difficult": torch.zeros(count, dtype=torch.bool)}


@HEADS
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (33, 40)])
def test_forward_at_any_size(name, size):
    output = network_of(name)(torch.rand(2, 3, *size))
    anchors = len(output.points)
    assert output.class_logits.shape == (2, anchors, CLASSES)
    assert output.box_regression.shape == (2, anchors, 4)
    assert output.points.shape == (anchors, 3)
    assert output.image_size.tolist() == list(size)


@HEADS
def test_gradient_reaches_every_parameter(name):
    network = network_of(name).train()
    boxes = torch.tensor([[4.0, 4.0, 20.0, 24.0], [10.0, 10.0, 60.0, 60.0], [33.0, 1.0, 62.0, 25.0]])
    parts = network.task.loss(network(torch.rand(2, 3, 64, 64)), [target_of(boxes), target_of(boxes[:0])])
    sum(parts.values()).backward()
    missing = [
        key
        for key, parameter in network.task.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or parameter.grad.abs().sum() == 0
    ]
    assert missing == []


@HEADS
@pytest.mark.parametrize("kind", ["empty", "none", "crowded", "degenerate"])
def test_finite_loss_and_gradient(name, kind):
    corners = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)) * 60
    target = {
        "empty": target_of(torch.zeros(0, 4)),
        "none": None,
        "crowded": target_of(torch.cat([corners, corners + 4], dim=1)),
        "degenerate": target_of(torch.tensor([[5.0, 5.0, 5.0, 5.0], [9.0, 9.0, 40.0, 9.0]])),
    }[kind]
    network = network_of(name)
    parts = network.task.loss(network(torch.rand(2, 3, 64, 64)), [target, target])
    total = sum(parts.values())
    total.backward()
    assert total.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)
    if kind == "none":
        assert total.item() == 0


@HEADS
def test_exported_equals_eager_at_other_sizes(name):
    network = network_of(name)
    shapes = ({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},)
    exported = torch.export.export(network, (torch.rand(2, 3, 96, 128),), dynamic_shapes=shapes).module()
    for size in ((1, 3, 64, 64), (3, 3, 65, 97)):
        images = torch.rand(size)
        torch.testing.assert_close(tuple(exported(images)), tuple(network(images)))


@HEADS
def test_compiles_in_one_graph(name):
    network = network_of(name)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    images = torch.rand(1, 3, 65, 97)
    torch.testing.assert_close(tuple(compiled(images)), tuple(network(images)))


@HEADS
def test_state_dict_round_trip(name):
    network, other = network_of(name), Network(name).eval()
    other.load_state_dict(network.state_dict())
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(tuple(other(images)), tuple(network(images)), atol=0, rtol=0)


@HEADS
def test_every_class_starts_at_its_prior(name):
    head = DETECTION_HEADS.build(name, INFO, CLASSES)
    assert isinstance(head, DetectionHead)
    assert isinstance(head, SupportsPrior)
    nn.init.zeros_(head.class_predictor.bias)
    head.reset_prior()
    nn.init.zeros_(head.class_predictor.weight)
    maps = head(network_of(name).backbone(torch.rand(1, 3, 64, 64)))
    torch.testing.assert_close(maps.class_logits.sigmoid(), torch.full_like(maps.class_logits, 0.01))


def test_a_flipped_image_gives_flipped_boxes():
    """Exactly so for a head whose kernels are symmetric, on features that are flipped too."""
    head = DETECTION_HEADS.build("fpn", INFO, CLASSES).eval()
    with torch.no_grad():
        for module in head.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_((module.weight + module.weight.flip(3)) / 2)
        head.box_predictor.weight[2] = head.box_predictor.weight[0]  # right = left
        head.box_predictor.bias[2] = head.box_predictor.bias[0]
    features = [torch.randn(1, info.channels, 64 // info.stride, 64 // info.stride) for info in INFO]
    straight, flipped = head(features), head([feature.flip(3) for feature in features])
    boxes = head.decode(straight.box_regression, straight.points)
    mirrored = head.decode(flipped.box_regression, flipped.points)
    mirrored = torch.stack([64 - mirrored[..., 2], mirrored[..., 1], 64 - mirrored[..., 0], mirrored[..., 3]], dim=-1)
    order = torch.cat(
        [
            start + torch.arange(side * side).view(side, side).flip(1).flatten()
            for start, side in ((0, 8), (64, 4), (80, 2))
        ]
    )
    torch.testing.assert_close(mirrored[:, order], boxes, atol=1e-3, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_decoding_an_encoded_box_gives_the_box(seed):
    generator = torch.Generator().manual_seed(seed)
    points = torch.cat([grid_points((4, 4), 8), grid_points((2, 2), 16)])
    distances = torch.rand(3, len(points), 4, generator=generator) * 200 + 0.01
    boxes = torch.cat([points[:, :2] - distances[..., :2], points[:, :2] + distances[..., 2:]], dim=-1)
    decoded = decode_distances(encode_distances(boxes, points), points)
    torch.testing.assert_close(decoded, boxes, atol=1e-3, rtol=1e-4)


def test_decoding_is_finite_and_in_float32_whatever_the_regression():
    points = grid_points((1, 2), 32)
    regression = torch.tensor([[[100.0] * 4, [-100.0] * 4]], dtype=torch.float16, requires_grad=True)
    boxes = decode_distances(regression, points)
    assert boxes.dtype == torch.float32
    assert boxes.isfinite().all()
    boxes.sum().backward()
    assert regression.grad.isfinite().all()


def test_a_new_head_predicts_boxes_of_four_strides():
    head = DETECTION_HEADS.build("fpn", INFO, CLASSES)
    nn.init.zeros_(head.box_predictor.weight)
    nn.init.zeros_(head.box_predictor.bias)
    maps = head(network_of("fpn").backbone(torch.rand(1, 3, 64, 64)))
    assert torch.allclose(torch.nn.functional.softplus(maps.box_regression), torch.full_like(maps.box_regression, 2.0))


def test_dropout_acts_in_training_only():
    head = DETECTION_HEADS.get("fpn")(INFO, CLASSES, dropout_rate=0.5)
    features = network_of("fpn").backbone(torch.rand(1, 3, 64, 64))
    assert not torch.equal(head(features).class_logits, head(features).class_logits)
    head.eval()
    assert torch.equal(head(features).class_logits, head(features).class_logits)
