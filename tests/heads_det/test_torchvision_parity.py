"""RetinaNet and FCOS against torchvision's with the same weights: outputs, boxes, losses, gradients and detections.

The sides of the images are multiples of 128. torchvision takes the stride of a level as ``image size // feature size``,
which is the nominal stride at such sizes only; here it is always the nominal one, whatever the size: deliberate.
"""

import re
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.fcos import FCOSHead as TorchvisionFCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead as TorchvisionRetinaNetHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import mtvision.assigners
import mtvision.necks  # noqa: F401 - the two fill their registries
from contract_detection import target_of
from mtvision.backbones import TimmBackbone
from mtvision.heads.detection import FCOSHead, RetinaNetHead
from mtvision.registries import ASSIGNERS, BOX_LOSSES, CLASSIFICATION_LOSSES, NECKS
from mtvision.registry import Component
from mtvision.tasks.detection import DetectionTask
from mtvision.types import FeatureInfo


class Scale(NamedTuple):
    """Mean and standard deviation of a regression."""

    mean: float
    std: float


SIZE = (128, 256)
NUM_CLASSES = 5
MAX_DETECTIONS, CANDIDATES = 100, 500
HEADS = {"retinanet": (RetinaNetHead, RetinaNet, "l1"), "fcos": (FCOSHead, FCOS, "giou")}
SCALES = {"retinanet": Scale(mean=0.0, std=0.1), "fcos": Scale(mean=2.0, std=0.5)}
PARTS = {"classification": "class", "bbox_regression": "box", "bbox_ctrness": "centerness"}
KEYS = [
    (r"backbone\.body\.(.*)", r"backbone.net.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.0\.(.*)", r"neck.laterals.\1.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.0\.(.*)", r"neck.outputs.\1.\2"),
    (r"backbone\.fpn\.extra_blocks\.p6\.(.*)", r"neck.extra.0.\1"),
    (r"backbone\.fpn\.extra_blocks\.p7\.(.*)", r"neck.extra.1.1.\1"),
    (r"head\.classification_head\.cls_logits\.(.*)", r"task.head.class_predictor.\1"),
    (r"head\.regression_head\.bbox_reg\.(.*)", r"task.head.box_predictor.\1"),
    (r"head\.regression_head\.bbox_ctrness\.(.*)", r"task.head.centerness_predictor.\1"),
    (r"head\.classification_head\.conv\.(\d\.\d)\.(.*)", r"task.head.class_tower.\1.\2"),
    (r"head\.regression_head\.conv\.(\d\.\d)\.(.*)", r"task.head.box_tower.\1.\2"),
]
FLAT_TOWER = re.compile(r"(head\.\w+_head\.conv)\.(\d+)\.(weight|bias)")
"""FCOS's towers are flat there: convolution, norm and activation in turn."""


def our_key(key):
    flat = FLAT_TOWER.fullmatch(key)
    if flat:
        key = f"{flat[1]}.{int(flat[2]) // 3}.{int(flat[2]) % 3}.{flat[3]}"
    ((pattern, replacement),) = [pair for pair in KEYS if re.fullmatch(pair[0], key)]
    return re.sub(pattern, replacement, key)


class Ours(nn.Module):
    def __init__(self, head, backbone, box_loss):
        super().__init__()
        self.backbone = TimmBackbone(backbone)
        self.neck = NECKS.build(head.recipe.neck, self.backbone.feature_info)
        self.task = DetectionTask(
            head(self.neck.feature_info, NUM_CLASSES),
            NUM_CLASSES,
            BOX_LOSSES.build(box_loss),
            CLASSIFICATION_LOSSES.build(Component("focal", {"alpha": 0.25, "gamma": 2.0})),
            ASSIGNERS.build(head.recipe.assigner),
            max_detections=MAX_DETECTIONS,
            candidates=CANDIDATES,
        )

    def forward(self, images):
        return self.task(self.neck(self.backbone(images)), SIZE)


class Pair(NamedTuple):
    """Both networks and what they say of the same images, `theirs` in torchvision's form."""

    ours: Ours
    theirs: nn.Module
    output: Any
    expected: dict[str, torch.Tensor]
    anchors: torch.Tensor
    num_anchors: list[int]


@pytest.fixture(scope="module", params=["resnet18", "resnet50"])
def backbone(request):
    return request.param


@pytest.fixture(scope="module", params=list(HEADS))
def pair(request, backbone):
    head, model, box_loss = HEADS[request.param]
    torch.manual_seed(0)
    images = torch.rand(3, 3, *SIZE)
    theirs = torchvision_model(model, backbone, head.recipe)
    settle(theirs, images, SCALES[request.param])
    ours = Ours(head, backbone, box_loss).eval()
    state = {our_key(key): value for key, value in theirs.state_dict().items()}
    assert len(state) == len(theirs.state_dict()), "two tensors become one"
    ours.load_state_dict(state, strict=True)
    for body in (ours.backbone, theirs.backbone.body):
        body.requires_grad_(False)  # their gradients would take most of the time
    features = list(theirs.backbone(images).values())
    anchors = theirs.anchor_generator(ImageList(images, [SIZE] * len(images)), features)[0]
    a_cell = theirs.anchor_generator.num_anchors_per_location()[0]
    num_anchors = [a_cell * feature.shape[2] * feature.shape[3] for feature in features]
    return Pair(ours, theirs, ours(images), theirs.head(features), anchors, num_anchors)


def torchvision_model(model, backbone, recipe):
    body = getattr(torchvision.models, backbone)(weights=None)
    extractor = _resnet_fpn_extractor(body, 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    return model(
        extractor,
        NUM_CLASSES,
        score_thresh=recipe.score_threshold,
        nms_thresh=recipe.nms_threshold,
        detections_per_img=MAX_DETECTIONS,
        topk_candidates=CANDIDATES,
    )


@torch.no_grad()
def settle(model, images, scale):
    """Give a new network scores and boxes that differ from point to point, as a trained one's do.

    The boxes keep an area inside the image: torchvision keeps also those that clipping leaves without one, which are no
    detections here (deliberate).
    """
    for module in model.head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    for module in model.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # one batch's statistics are then the running ones
    features = list(model.backbone(images).values())
    model.eval()
    classes, boxes = model.head.classification_head.cls_logits, model.head.regression_head.bbox_reg
    outputs = model.head(features)
    classes.weight /= outputs["cls_logits"].std()
    boxes.weight *= scale.std / outputs["bbox_regression"].std()
    classes.bias.fill_(-3.0)
    boxes.bias.fill_(scale.mean)


def test_outputs_are_equal(pair):
    output, expected = pair.output, pair.expected
    torch.testing.assert_close(output.class_logits, expected["cls_logits"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.box_regression, expected["bbox_regression"], rtol=1e-4, atol=1e-4)
    if "bbox_ctrness" in expected:
        torch.testing.assert_close(output.centerness, expected["bbox_ctrness"][..., 0], rtol=1e-4, atol=1e-4)
    else:
        assert output.centerness is None


def test_points_and_decoded_boxes_are_equal(pair):
    output, anchors = pair.output, pair.anchors
    x, y, stride, *sides = output.points.unbind(1)
    width, height = sides or (stride, stride)  # torchvision's FCOS has a square of one stride at each point
    ours = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=1)
    torch.testing.assert_close(ours, anchors, rtol=0, atol=0)
    coder = pair.theirs.box_coder
    decode = coder.decode_single if hasattr(coder, "decode_single") else coder.decode
    boxes = pair.ours.task.head.decode(output.box_regression, output.points)
    expected = torch.stack([decode(regression, anchors) for regression in output.box_regression])
    torch.testing.assert_close(boxes, expected)


def losses_of(pair, objects):
    """Return torchvision's losses and ours by our names."""
    targets = [target_of(torch.tensor(boxes).reshape(-1, 4)) for boxes in objects]
    theirs = [{key: target[key] for key in ("boxes", "labels")} for target in targets]
    extra = [pair.num_anchors] if isinstance(pair.theirs, FCOS) else []
    expected = pair.theirs.compute_loss(theirs, pair.expected, [pair.anchors] * len(targets), *extra)
    return {PARTS[key]: value for key, value in expected.items()}, pair.ours.task.loss(pair.output, targets)


OVERLAPPING = [[10.0, 10.0, 90.0, 100.0], [30.0, 20.0, 100.0, 90.0], [40.0, 40.0, 60.0, 60.0], [0.0, 0.0, 256.0, 128.0]]
TWICE = [[200.0, 60.0, 232.0, 92.0], [200.0, 60.0, 232.0, 92.0], [5.5, 3.25, 77.1, 121.9]]


@pytest.mark.parametrize(
    "objects",
    [[OVERLAPPING, [], TWICE], [[], [], []], [[[8.0, 8.0, 40.0, 56.0]], [[130.0, 20.0, 250.0, 120.0]], OVERLAPPING]],
    ids=["an image without objects", "no objects at all", "objects everywhere"],
)
def test_losses_are_equal(pair, objects):
    expected, parts = losses_of(pair, objects)
    assert set(parts) == set(expected)
    assert any(objects) == bool(parts["box"] > 0)
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)


def test_gradients_of_head_and_neck_are_equal(pair):
    expected, parts = losses_of(pair, [OVERLAPPING, [], TWICE])
    ours, theirs = (
        {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
        for model in (pair.ours, pair.theirs)
    )
    assert {our_key(key) for key in theirs} == set(ours)
    gradients = torch.autograd.grad(sum(parts.values()), list(ours.values()), retain_graph=True)
    found = dict(zip(ours, gradients, strict=True))
    for key, wanted in zip(
        theirs, torch.autograd.grad(sum(expected.values()), list(theirs.values()), retain_graph=True), strict=True
    ):
        assert wanted.any(), key
        torch.testing.assert_close(found[our_key(key)], wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())


def test_detections_are_equal(pair):
    """More candidates than enter the suppression, more detections than are wanted, the same ones in the same order."""
    split = {key: list(value.split(pair.num_anchors, dim=1)) for key, value in pair.expected.items()}
    images = len(pair.output.class_logits)
    anchors = [list(pair.anchors.split(pair.num_anchors))] * images
    with torch.no_grad():
        expected = pair.theirs.postprocess_detections(split, anchors, [SIZE] * images)
    detections = pair.ours.task.postprocess(pair.output)
    finest = pair.output.class_logits[0, : pair.num_anchors[0]]
    assert finest.sigmoid().gt(pair.ours.task.selection.score_threshold).sum() > CANDIDATES
    for ours, theirs in zip(detections, expected, strict=True):
        assert len(theirs["boxes"]) == MAX_DETECTIONS
        assert (theirs["boxes"][:, 2:] > theirs["boxes"][:, :2]).all()
        assert ours["labels"].tolist() == theirs["labels"].tolist()
        torch.testing.assert_close(ours["scores"], theirs["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours["boxes"], theirs["boxes"], rtol=1e-4, atol=1e-3)


def test_second_version_of_retinanet_has_group_norm():
    torch.manual_seed(0)
    theirs = TorchvisionRetinaNetHead(64, 9, NUM_CLASSES, norm_layer=partial(nn.GroupNorm, 8))
    ours = RetinaNetHead([FeatureInfo(64, 8), FeatureInfo(64, 16)], NUM_CLASSES, norm="group")
    state = {our_key(f"head.{key}").removeprefix("task.head."): value for key, value in theirs.state_dict().items()}
    ours.load_state_dict(state, strict=True)
    features = [torch.randn(2, 64, 5, 7), torch.randn(2, 64, 3, 4)]
    maps, expected = ours(features), theirs(features)
    torch.testing.assert_close(maps.class_logits, expected["cls_logits"])
    torch.testing.assert_close(maps.box_regression, expected["bbox_regression"])


def test_a_coordinate_loss_compares_retinanets_deltas():
    head = RetinaNetHead([FeatureInfo(8, 8), FeatureInfo(8, 16)], NUM_CLASSES)
    maps = head([torch.randn(1, 8, 4, 6), torch.randn(1, 8, 2, 3)])
    corners = torch.rand(2, len(maps.points), 2, generator=torch.Generator().manual_seed(0)) * 50
    boxes = torch.cat([corners[0], corners[0] + corners[1] + 1], dim=1)
    centres, sides = maps.points[:, :2], maps.points[:, 3:]
    anchors = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
    expected = BoxCoder((1.0, 1.0, 1.0, 1.0)).encode_single(boxes, anchors)
    torch.testing.assert_close(head.target_coordinates(boxes, maps.points), expected)
    assert torch.equal(head.coordinates(maps.box_regression, maps.points), maps.box_regression)


def test_fcos_cuts_distances_below_zero():
    """Which those of the networks above are not: they were kept from it, so that every box has an area."""
    torch.manual_seed(0)
    theirs = TorchvisionFCOSHead(256, 1, NUM_CLASSES)
    ours = FCOSHead([FeatureInfo(256, 8)], NUM_CLASSES)
    state = {our_key(f"head.{key}").removeprefix("task.head."): value for key, value in theirs.state_dict().items()}
    ours.load_state_dict(state, strict=True)
    features = [torch.randn(2, 256, 5, 7)]
    regression = ours(features).box_regression
    torch.testing.assert_close(regression, theirs(features)["bbox_regression"])
    assert 0 < (regression == 0).sum() < regression.numel()
