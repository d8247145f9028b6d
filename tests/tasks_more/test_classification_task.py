import math

import pytest
import torch
from contract_task import check_task
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import binary_cross_entropy

from mtvision.errors import ConfigError, DataError
from mtvision.heads.classification import PooledClassifier
from mtvision.registries import TASKS
from mtvision.registry import Component
from mtvision.tasks.classification import ClassificationOutput, ClassificationTask, classes_of_boxes
from mtvision.types import FeatureInfo

INFO = [FeatureInfo(4, 8), FeatureInfo(6, 32)]


def make_task(num_classes=4):
    return ClassificationTask(PooledClassifier(INFO, num_classes), num_classes)


def objects(labels, difficult=None):
    labels = torch.tensor(labels, dtype=torch.int64)
    flags = torch.zeros(len(labels), dtype=torch.bool) if difficult is None else torch.tensor(difficult)
    return {"boxes": torch.zeros(len(labels), 4), "labels": labels, "difficult": flags}


def tags(_size):
    return torch.tensor([1.0, 0.0, torch.nan, 0.25, 1.0])


@pytest.mark.parametrize("options", [{}, {"stride": 8, "prior_probability": 0.5}])
def test_contract(options):
    check_task("classification", tags, num_classes=5, **options)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_loss_is_the_cross_entropy_of_what_is_known(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 4, generator=generator)
    truth = torch.rand(4, 4, generator=generator)
    truth[torch.rand(4, 4, generator=generator) < 0.4] = torch.nan
    known = ~truth.isnan()
    got = make_task().loss(ClassificationOutput(logits), [None, *truth[1:]])["classification"]
    known[0] = False
    expected = binary_cross_entropy(logits.sigmoid()[known], truth[known]) if known.any() else torch.tensor(0.0)
    torch.testing.assert_close(got, expected)


def test_targets_of_integers_and_flags_are_taken():
    logits = torch.tensor([[2.0, -1.0, 0.5, 0.0]])
    losses = [
        make_task().loss(ClassificationOutput(logits), [torch.tensor([1, 0, 0, 1]).to(kind)])["classification"]
        for kind in (torch.float32, torch.int64, torch.bool)
    ]
    assert losses[0] == losses[1] == losses[2]


def test_all_classes_come_back_the_likeliest_first():
    logits = torch.tensor([[0.0, 3.0, -1.0, 0.0]])
    (prediction,) = make_task().postprocess(ClassificationOutput(logits), [(480, 640)])
    assert prediction["labels"].tolist() == [1, 0, 3, 2]
    torch.testing.assert_close(prediction["scores"], logits[0, [1, 0, 3, 2]].sigmoid())


def test_the_head_is_a_linear_layer_on_the_mean_of_the_chosen_feature():
    features = [torch.randn(2, 4, 8, 12), torch.randn(2, 6, 2, 3)]
    for stride, feature in ((None, features[1]), (32, features[1]), (8, features[0])):
        head = PooledClassifier(INFO, 3, stride=stride)
        expected = feature.flatten(2).mean(dim=2) @ head.score.weight.T + head.score.bias
        torch.testing.assert_close(head(features), expected)
    with pytest.raises(ConfigError, match="the classification head needs features of stride 16"):
        PooledClassifier(INFO, 3, stride=16)


def test_classes_start_at_their_prior():
    head = PooledClassifier(INFO, 3, prior_probability=0.2)
    torch.testing.assert_close(head.score.bias.sigmoid(), torch.full((3,), 0.2))
    nn.init.zeros_(head.score.weight)
    nn.init.zeros_(head.score.bias)
    head.reset_prior()
    logits = head([torch.randn(1, 4, 2, 2), torch.randn(1, 6, 1, 1)])
    torch.testing.assert_close(logits.sigmoid(), torch.full((1, 3), 0.2))


def test_dropout_is_that_of_the_option():
    task = TASKS.build(Component("classification", {"num_classes": 3, "dropout_rate": 0.4}), INFO)
    assert task.head.dropout.p == 0.4


def test_classes_are_those_of_the_boxes_and_only_difficult_ones_are_unknown():
    got = classes_of_boxes([objects([2, 2, 0], [False, True, False]), objects([]), None, objects([1], [True])], 4)
    assert got[0].tolist() == [1, 0, 1, 0]
    assert got[1].tolist() == [0, 0, 0, 0]
    assert got[2] is None
    assert math.isnan(got[3][1])
    assert got[3][[0, 2, 3]].tolist() == [0, 0, 0]
    assert classes_of_boxes([None], 4) == [None]


def test_a_label_beyond_the_classes_is_named():
    with pytest.raises(DataError, match=r"a box has the label 4, but the classification task .* has 4 classes"):
        classes_of_boxes([objects([0]), None, objects([4])], 4)


def test_own_targets_come_before_those_of_boxes():
    task, own = make_task(), [torch.zeros(4)]
    assert task.select({"tags": own, "det": [objects([1])]}, "tags") is own
    assert task.select({"det": [objects([1])]}, "tags")[0].tolist() == [0, 1, 0, 0]
    with pytest.raises(DataError, match=r"annotations for task 'tags' are missing; got \['seg'\]"):
        task.select({"seg": None}, "tags")


@pytest.mark.parametrize(
    ("target", "sentence"),
    [([torch.zeros(4)] * 2, r"one an image \(1\), got 2"), ([torch.zeros(3)], r"expected \(4,\), got \(3,\)")],
)
def test_targets_that_do_not_fit_are_named(target, sentence):
    with pytest.raises(DataError, match=sentence):
        make_task().loss(ClassificationOutput(torch.zeros(1, 4)), target)


def test_a_head_that_does_not_fit_is_named():
    with pytest.raises(ConfigError, match="must give 5 logits an image, got 4"):
        ClassificationTask(PooledClassifier(INFO, 4), 5)([torch.zeros(1, 4, 2, 2), torch.zeros(1, 6, 1, 1)], (8, 8))
    with pytest.raises(ConfigError, match="must give 4 logits an image, got 4 x 2 x 2"):
        ClassificationTask(nn.Identity(), 4)(torch.zeros(1, 4, 2, 2), (8, 8))


def test_without_a_number_of_classes_the_sentence_says_where_it_may_come_from():
    with pytest.raises(ConfigError, match=r"num_classes is missing, .* Classes\.others"):
        TASKS.build("classification", INFO)
