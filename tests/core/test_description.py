import dataclasses
import math

import pytest
import torch
from torch import nn

from contract import Pyramid
from mtvision.description import OWN, all_from, describe_model, prefixed
from mtvision.heads.segmentation.fcn import FCNHead
from mtvision.initializers import initialize, reset_norms, reset_priors, scheme_text
from mtvision.layers.blocks import ConvNormAct
from mtvision.layers.normalization import IMAGENET_MEAN, IMAGENET_STD, InputNormalization
from mtvision.losses.segmentation import CrossEntropy
from mtvision.registries import INITIALIZERS
from mtvision.registry import Component
from mtvision.tasks.segmentation import SegmentationTask


class Head(nn.Module):
    prior_probability = 0.01

    def __init__(self):
        super().__init__()
        self.tower = ConvNormAct(16, 16, norm="group")
        self.score = nn.Conv2d(16, 2, 1)
        self.scales = nn.Parameter(torch.ones(3))

    def reset_prior(self):
        nn.init.constant_(self.score.bias, -math.log(99))


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = Head()


class Tiny(Pyramid):
    name = "tiny"


class Network(nn.Module):
    """A model's parts under their names."""

    def __init__(self):
        super().__init__()
        self.normalization = InputNormalization(IMAGENET_MEAN, IMAGENET_STD)
        self.backbone = Tiny()
        self.neck = None
        segmentation = SegmentationTask(FCNHead(self.backbone.feature_info, 3), 3, CrossEntropy())
        self.tasks = nn.ModuleDict({"seg": segmentation, "det": Detector()})


@pytest.fixture
def model():
    return Network()


def initialized(model):
    """Initialize as a factory would, and return what was done."""
    scheme = Component("xavier")
    text = scheme_text(scheme)
    origins = prefixed("tasks", initialize(model.tasks, INITIALIZERS.build(scheme), scheme=text))
    origins |= prefixed("backbone", all_from(model.backbone, "pretrained"))
    return origins | reset_priors(model)


def test_rows_are_the_parts(model):
    description = describe_model(model, {})
    assert [row.part for row in description.rows] == ["normalization", "backbone", "tasks.seg", "tasks.det"]
    assert [row.kind for row in description.rows] == [
        "InputNormalization",
        "Tiny(tiny)",
        "SegmentationTask(FCNHead)",
        "Detector(Head)",
    ]
    assert {text for row in description.rows for text in row.initialized_by} == {OWN}


def test_numbers_add_up(model):
    model.backbone.requires_grad_(False)
    description = describe_model(model, initialized(model))
    total = sum(parameter.numel() for parameter in model.parameters())
    trainable = sum(parameter.numel() for parameter in model.tasks.parameters())
    assert description.parameters == sum(row.parameters for row in description.rows) == total
    assert description.trainable == trainable < total
    for row in description.rows:
        assert row.parameters == sum(row.initialized_by.values())
        assert list(row.initialized_by.values()) == sorted(row.initialized_by.values(), reverse=True)
    by_part = {row.part: row for row in description.rows}
    assert by_part["backbone"].trainable == 0
    assert by_part["tasks.seg"].trainable == by_part["tasks.seg"].parameters


def test_every_parameter_has_its_initialization(model):
    rows = {row.part: row.initialized_by for row in describe_model(model, initialized(model)).rows}
    assert rows["backbone"] == {"pretrained": sum(p.numel() for p in model.backbone.parameters())}
    assert rows["tasks.det"] == {
        "xavier(distribution='uniform', gain=1.0)": 16 * 16 * 9 + 2 * 16,
        "norm: 1": 16,
        "0": 16,
        "prior (p = 0.01)": 2,
        OWN: 3,
    }


def test_a_later_initialization_counts():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    origins = prefixed("0", all_from(model[0], "pretrained")) | prefixed("1", reset_norms(model[1]))
    origins |= initialize(model, INITIALIZERS.build("normal"), scheme="normal")
    assert describe_model(model, origins).rows[0].initialized_by == {"normal": 9, "0": 3}


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(4))
        self.first = nn.Linear(2, 3)
        self.second = nn.Linear(2, 3)
        self.second.weight = self.first.weight
        self.heads = nn.ModuleDict({"a": nn.Linear(3, 1), "b": nn.Identity()})
        self.nothing = nn.ModuleDict()


def test_parameters_of_any_module_are_counted_once():
    model = Plain()
    description = describe_model(model, {"second.weight": "tied", "heads.a.bias": "0", "heads.c.bias": "0"})
    found = {row.part: (row.kind, dict(row.initialized_by)) for row in description.rows}
    assert found == {
        "(model)": ("Plain", {OWN: 4}),
        "first": ("Linear", {"tied": 6, OWN: 3}),
        "second": ("Linear", {OWN: 3}),
        "heads.a": ("Linear", {OWN: 3, "0": 1}),
        "heads.b": ("Identity", {}),
    }
    assert description.parameters == sum(parameter.numel() for parameter in model.parameters()) == 20


def test_table():
    model = nn.ModuleDict(
        {"body": nn.Linear(50, 60), "relu": nn.ReLU(), "score": nn.Linear(60, 2).requires_grad_(False)}
    )
    origins = prefixed("body", initialize(model["body"], INITIALIZERS.build("normal"), scheme="normal(std=0.01)"))
    lines = str(describe_model(model, origins | prefixed("score", all_from(model["score"], "pretrained")))).splitlines()
    assert lines == [
        "part   class   parameters  trainable  of these  initialized by",
        "body   Linear       3,060      3,060     3,000  normal(std=0.01)",
        "                                            60  0",
        "relu   ReLU             0          0",
        "score  Linear         122          0       122  pretrained",
        "total               3,182      3,060",
    ]


def test_a_module_without_parts():
    description = describe_model(nn.ReLU(), {})
    assert description.rows == ()
    assert description.parameters == description.trainable == 0
    assert str(description).splitlines()[-1].split() == ["total", "0", "0"]
    assert describe_model(nn.Linear(2, 2), {"weight": "x"}).rows[0].initialized_by == {"x": 4, OWN: 2}


def test_a_description_is_frozen(model):
    with pytest.raises(dataclasses.FrozenInstanceError):
        describe_model(model, {}).rows = ()
