"""Weights and rare classes that come from the data set."""

import copy
import io
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import example
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

import mtvision as mtv
from mtvision.data.statistics.class_counts import ClassCounts, class_pixel_counts
from mtvision.errors import ConfigError
from mtvision.losses.class_counts import (
    SupportsClassCounts,
    balanced_weights,
    fill_class_counts,
    median_frequency_weights,
)
from mtvision.losses.segmentation import (
    CrossEntropy,
    Focal,
    HardPixelCrossEntropy,
    RareFocal,
    segmentation_cross_entropy,
)
from mtvision.registries import SEGMENTATION_LOSSES
from mtvision.registry import Component
from mtvision.types import VOID

COUNTS = ClassCounts(np.array([700, 200, 0, 90, 10]), np.array([1000, 500, 0, 900, 100]))
PENDING = [
    CrossEntropy(class_weights="balanced"),
    CrossEntropy(class_weights="median_frequency", label_smoothing=0.1),
    HardPixelCrossEntropy(class_weights="balanced"),
    Focal(alpha="median_frequency"),
    RareFocal(),
]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=2, max_size=8).filter(any))
def test_balanced_is_scikit_learns(pixels):
    counts = ClassCounts(np.array(pixels), np.array(pixels) * 2)
    labels = np.repeat(np.arange(len(pixels)), pixels)
    present = np.flatnonzero(pixels)
    weights = balanced_weights(counts)
    np.testing.assert_allclose(weights[present], compute_class_weight("balanced", classes=present, y=labels))
    assert (weights[np.array(pixels) == 0] == 1).all()


def test_median_frequency_is_the_papers_formula_image_by_image():
    masks = [np.array(mask) for mask in ([[0, 0], [1, 1]], [[0, 0], [0, 2]], [[0, VOID], [2, 2]], [[0, 0], [0, 0]])]
    frequencies = []
    for c in range(3):
        images = [mask for mask in masks if (mask == c).any()]
        frequencies.append(sum((m == c).sum() for m in images) / sum((m != VOID).sum() for m in images))
    assert frequencies == [10 / 15, 2 / 4, 3 / 7]
    samples = [
        mtv.Sample(np.zeros((2, 2, 3), np.uint8), mask.astype(np.uint8), None, None, None, str(i), (2, 2))
        for i, mask in enumerate(masks)
    ]
    weights = median_frequency_weights(class_pixel_counts(samples, 5))
    np.testing.assert_allclose(weights, [0.5 / (10 / 15), 1, 0.5 / (3 / 7), 1, 1])


@pytest.mark.parametrize("rule", [balanced_weights, median_frequency_weights])
def test_without_any_pixel_all_weights_are_one(rule):
    assert rule(ClassCounts(np.zeros(3, np.int64), np.zeros(3, np.int64))).tolist() == [1, 1, 1]


def test_the_values_that_the_counts_give():
    logits, mask = example()
    weights = torch.from_numpy(balanced_weights(COUNTS)).float()
    for loss in map(copy.deepcopy, PENDING):
        loss.set_class_counts(COUNTS)
    loss = CrossEntropy(class_weights="balanced")
    loss.set_class_counts(COUNTS)
    torch.testing.assert_close(loss(logits, mask), segmentation_cross_entropy(logits, mask, class_weights=weights))
    focal, given = Focal(alpha="median_frequency"), Focal(alpha=median_frequency_weights(COUNTS).tolist())
    focal.set_class_counts(COUNTS)
    torch.testing.assert_close(focal(logits, mask), given(logits, mask))
    hard, given = HardPixelCrossEntropy(class_weights="balanced"), HardPixelCrossEntropy(class_weights=weights.tolist())
    hard.set_class_counts(COUNTS)
    torch.testing.assert_close(hard(logits, mask), given(logits, mask))


@pytest.mark.parametrize(("share", "rare"), [(0.01, [2]), (0.05, [2, 4]), (0.2, [2, 3, 4]), (0.0, [])])
def test_classes_below_a_share_of_the_pixels_are_rare(share, rare):
    logits, mask = example()
    loss = RareFocal(rare_share=share)
    loss.set_class_counts(COUNTS)
    torch.testing.assert_close(loss(logits, mask), RareFocal(rare_classes=rare)(logits, mask))
    assert loss.rare[:5].nonzero().flatten().tolist() == rare


@pytest.mark.parametrize("pending", PENDING, ids=lambda loss: type(loss).__name__)
def test_until_they_are_known_all_weights_are_one_and_training_warns_once(pending, caplog):
    loss = copy.deepcopy(pending)
    logits, mask = example()
    plain = {
        "CrossEntropy": CrossEntropy(label_smoothing=getattr(loss, "label_smoothing", 0.0)),
        "HardPixelCrossEntropy": HardPixelCrossEntropy(),
        "Focal": Focal(),
        "RareFocal": CrossEntropy(),
    }[type(loss).__name__]
    assert isinstance(loss, SupportsClassCounts)
    with caplog.at_level(logging.WARNING, logger="mtvision"):
        loss(logits.detach(), mask)
        loss.eval()(logits, mask)
        with torch.no_grad():
            loss.train()(logits, mask)
        assert not caplog.records
        torch.testing.assert_close(loss(logits, mask), plain(logits, mask))
        loss(logits, mask)
    assert len(caplog.records) == 1
    assert "the class counts of the training set are not known yet" in caplog.text
    caplog.clear()
    known = copy.deepcopy(pending)
    known.set_class_counts(COUNTS)
    known(logits, mask)
    assert not caplog.records
    assert known(logits, mask) != plain(logits, mask)


@pytest.mark.parametrize("pending", PENDING, ids=lambda loss: type(loss).__name__)
def test_a_checkpoint_is_complete_in_itself(pending):
    loss, twin = copy.deepcopy(pending), copy.deepcopy(pending)
    loss.set_class_counts(COUNTS)
    stored = io.BytesIO()
    torch.save(loss.state_dict(), stored)
    stored.seek(0)
    twin.load_state_dict(torch.load(stored, weights_only=True))
    assert not twin.needs_class_counts
    logits, mask = example()
    assert torch.equal(twin(logits, mask), loss(logits, mask))


def test_given_values_are_no_state_and_stay():
    loss = CrossEntropy(class_weights=[1.0, 2.0])
    assert not loss.needs_class_counts
    assert not loss.state_dict()
    loss.set_class_counts(COUNTS)
    assert loss.class_weights.tolist() == [1, 2]


def test_counts_of_another_number_of_classes_are_refused():
    logits, mask = example(num_classes=4)
    loss = CrossEntropy(class_weights="balanced")
    loss.set_class_counts(COUNTS)
    with pytest.raises(ConfigError, match="class_weights: the class counts are of 5 classes, not of 4"):
        loss(logits, mask)


def test_filling_reads_the_data_only_for_what_is_pending_and_at_any_depth():
    class Owner(nn.Module):
        def __init__(self, loss):
            super().__init__()
            self.num_classes = 6
            self.inner = nn.Sequential(loss)

    fill_class_counts(Owner(CrossEntropy()), None)  # nothing to fill: the data set is left alone
    total = SEGMENTATION_LOSSES.build(
        Component("sum", {"terms": ["dice", {"name": "cross_entropy", "class_weights": "balanced"}, "rare_focal"]})
    )
    data = mtv.data.Shapes("train", num_images=8, image_size=32)
    fill_class_counts(Owner(total), data)
    counts = class_pixel_counts(data, 6)
    np.testing.assert_allclose(total.losses[1].class_weights[:6], balanced_weights(counts), rtol=1e-6)
    assert not total.losses[2].needs_class_counts


@pytest.mark.parametrize(
    ("loss", "rule"),
    [
        ({"name": "cross_entropy", "class_weights": "median_frequency"}, median_frequency_weights),
        (["dice", {"name": "cross_entropy", "class_weights": "balanced", "weight": 2.0}], balanced_weights),
    ],
)
def test_training_sets_them_and_the_checkpoint_has_them(tmp_path, loss, rule, caplog):
    config = mtv.Config(
        system={"epochs": 1, "device": "cpu"},
        model={"backbone": "test_resnet", "detection_head": None},
        training={"batch_size": 4, "seg_loss": loss},
        data={"dataset": {"name": "shapes", "num_images": 8, "image_size": 64}, "image_size": 64},
    )
    data = mtv.build_dataset(config, "train")
    model = mtv.build_model(config, classes=data.classes)
    with caplog.at_level(logging.WARNING, logger="mtvision"):
        mtv.Trainer(model, config, run_dir=tmp_path / "run", progress=False).fit(data)
    assert "class counts" not in caplog.text
    expected = rule(class_pixel_counts(data, 6, cache=False))
    assert expected.std() > 0.1
    for trained in (model, mtv.load_model(tmp_path / "run")):
        (entry,) = [module for module in trained.modules() if isinstance(module, CrossEntropy)]
        np.testing.assert_allclose(entry.class_weights[:6].cpu(), expected, rtol=1e-6)
        assert not entry.needs_class_counts


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (
            {"name": "cross_entropy", "class_weights": "balancd"},
            "class_weights: must be a list or one of 'balanced' or 'median_frequency', got 'balancd'. "
            "Did you mean 'balanced'?",
        ),
        (
            {"name": "ohem", "class_weights": 3},
            "class_weights: must be a list or one of 'balanced' or 'median_frequency', got 3",
        ),
        ({"name": "cross_entropy", "class_weights": [-1, 2]}, "class_weights.0: must be at least 0, got -1"),
        (
            {"name": "focal", "alpha": "median"},
            "alpha: must be a list or a number or one of 'balanced' or 'median_frequency', got 'median'",
        ),
        (
            {"name": "rare_focal", "rare_classes": "auot"},
            "rare_classes: must be a list or one of 'auto', got 'auot'. Did you mean 'auto'?",
        ),
    ],
)
def test_a_wrong_choice_of_weights_is_one_sentence(loss, sentence):
    with pytest.raises(mtv.ConfigError) as caught:
        mtv.Config(training={"seg_loss": loss})
    assert caught.value.problems == (f"training.seg_loss.{sentence}",)


def test_a_wrong_choice_inside_a_sum_says_where_it_stands():
    with pytest.raises(mtv.ConfigError) as caught:
        mtv.Config(training={"seg_loss": ["dice", {"name": "cross_entropy", "class_weights": [1, -1]}]})
    assert caught.value.problems == ("training.seg_loss.1.class_weights.1: must be at least 0, got -1",)
