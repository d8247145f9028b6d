"""What an epoch has and in which order: identities, hand-made tables, the paper's rule, and random tables."""

import logging
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mtvision.data import KeyedSampler, Shapes
from mtvision.data.loading.orders import (
    CompleteShare,
    Order,
    Uniform,
    Weighted,
    class_factors,
    occurrences,
    repeat_factors,
)
from mtvision.data.statistics.annotation_table import AnnotationTable
from mtvision.errors import DataError
from mtvision.registries import SAMPLERS
from mtvision.registry import Component

SIZES = st.integers(1, 60)
SEEDS = st.integers(0, 2**32)


def table_of(masks, boxes, num_classes=4):
    """Return a table of sets of class ids, None where nobody looked; masks count the background as 0."""
    number = len(masks)
    flags = [np.zeros((number, size), bool) for size in (num_classes + 1, num_classes)]
    for present, sets in zip(flags, (masks, boxes), strict=True):
        for index, ids in enumerate(sets):
            present[index, list(ids or ())] = True
    annotated = [np.array([ids is not None for ids in sets]) for sets in (masks, boxes)]
    return AnnotationTable(*annotated, *flags, np.ones(number, bool))


class Partly(Shapes):
    """Of six images the first two have both, two only boxes, one only a mask, one nothing."""

    def sample(self, index):
        one = super().sample(index)
        if index % 6 in (2, 3, 5):
            one = replace(one, mask=None)
        return replace(one, boxes=None, labels=None, difficult=None, instances=None) if index % 6 in (4, 5) else one


# ---------------------------------------------------------------------------------------------------------- uniform


@settings(max_examples=30, deadline=None)
@given(SIZES, SEEDS, st.integers(0, 100))
def test_uniform_is_what_the_sampler_without_an_order_does(number, seed, epoch):
    sampler = KeyedSampler(number, seed)
    sampler.set_epoch(epoch)
    assert Uniform(number).order(seed, epoch).tolist() == [key.index for key in sampler]


def test_uniform_is_numpys_permutation_of_seed_and_epoch():
    wanted = np.random.default_rng(np.random.SeedSequence([3, 5])).permutation(50)
    order = SAMPLERS.build("uniform", range(50), 8).order(3, 5)
    assert order.dtype == np.int64
    assert order.tolist() == wanted.tolist()


def orders(number=40):
    weights = np.random.default_rng(0).uniform(1, 4, number)
    return [Uniform(number), Weighted(weights), CompleteShare(weights < 2, batch_size=7, share=0.5)]


@pytest.mark.parametrize("order", orders(), ids=lambda order: type(order).__name__)
def test_an_order_is_a_function_of_seed_and_epoch(order):
    assert isinstance(order, Order)
    first, again = order.order(1, 2), order.order(1, 2)
    order.order(7, 8)
    assert first.tolist() == again.tolist() == order.order(1, 2).tolist()
    assert len({tuple(order.order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert len(first) == 40
    assert first.dtype == np.int64


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=30))
def test_repeats_are_counted_in_the_order_in_which_they_come(indices):
    wanted = [indices[:place].count(index) for place, index in enumerate(indices)]
    assert occurrences(np.array(indices, np.int64)).tolist() == wanted


# --------------------------------------------------------------------------------------------------- repeat factors


def test_factors_of_the_example_in_detectron2s_own_test():
    """RepeatFactorTrainingSampler: classes {0, 1}, {0} and none, threshold 0.5, give sqrt(3 / 2), 1, 1."""
    table = table_of([None] * 3, [{0, 1}, {0}, set()])
    assert repeat_factors(table, 0.5, "boxes").tolist() == pytest.approx([math.sqrt(3 / 2), 1, 1])


def test_factors_of_a_table_worked_out_by_hand():
    """Five images of six have boxes, four a mask; the shares are of those, and void or background make no class."""
    boxes = [{0}, {0}, {0, 1}, set(), {0}, None]
    masks = [{0, 1}, {0, 1}, None, {0, 3}, None, {0, 1, 3}]
    table = table_of(masks, boxes)
    # boxes at 0.4: class 0 in 4 of 5 (1), class 1 in 1 of 5 (sqrt 2)
    assert repeat_factors(table, 0.4, "boxes").tolist() == pytest.approx([1, 1, math.sqrt(2), 1, 1, 1])
    # pixels at 0.72: id 1 in 3 of 4 (1), id 3 in 2 of 4 (1.2)
    assert repeat_factors(table, 0.72, "pixels").tolist() == pytest.approx([1, 1, 1, 1.2, 1, 1.2])
    # both at 0.8: boxes 1 and 2; pixels sqrt(16 / 15) and sqrt(8 / 5)
    low, high = math.sqrt(16 / 15), math.sqrt(8 / 5)
    assert repeat_factors(table, 0.8, "both").tolist() == pytest.approx([low, low, 2, high, 1, high])
    # medians: of 0.8 and 0.2 it is 0.5, of 0.75 and 0.5 it is 0.625
    wanted = [1, 1, math.sqrt(2.5), math.sqrt(1.25), 1, math.sqrt(1.25)]
    assert repeat_factors(table, "median").tolist() == pytest.approx(wanted)


SETS = st.lists(st.tuples(*[st.none() | st.sets(st.integers(0, 3))] * 2), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(SETS, st.floats(0.01, 1), st.sampled_from(["boxes", "pixels", "both"]))
def test_factors_are_those_of_the_papers_steps_in_plain_python(pairs, threshold, over):
    boxes = [box for box, _ in pairs]
    pixels = [mask for _, mask in pairs]
    masks = [None if mask is None else {0} | {c + 1 for c in mask} for mask in pixels]
    looked = [sets for kind, sets in (("boxes", boxes), ("pixels", pixels)) if over in (kind, "both")]
    if all(one is None for sets in looked for one in sets):
        with pytest.raises(DataError, match=f"'class_balanced' over {over}: no image is annotated with"):
            repeat_factors(table_of(masks, boxes), threshold, over)
        return
    wanted = []
    for index in range(len(pairs)):
        largest = 1.0
        for sets in looked:
            annotated = [one for one in sets if one is not None]
            for c in sets[index] or ():
                share = sum(c in one for one in annotated) / len(annotated)
                largest = max(largest, math.sqrt(threshold / share))
        wanted.append(largest)
    assert repeat_factors(table_of(masks, boxes), threshold, over).tolist() == pytest.approx(wanted)


def test_the_median_acts_on_the_rarer_half_whatever_the_number_of_classes():
    for number in (3, 20, 1203):
        share = np.arange(1, number + 1) / number
        present = np.arange(number)[:, None] < np.round(share * number)  # image i has the classes above i
        factors = class_factors(present, np.ones(number, bool), "median")
        assert (factors > 1).sum() == number // 2
        assert factors[0] == pytest.approx(math.sqrt((number + 1) / 2))
    assert class_factors(np.zeros((4, 2), bool), np.ones(4, bool), "median").tolist() == [1, 1]


# --------------------------------------------------------------------------------------------------- weighted draws

WEIGHTS = st.lists(st.floats(1, 20), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(WEIGHTS, SEEDS, st.integers(0, 100))
def test_a_sample_is_drawn_as_often_as_expected_rounded_down_or_up(weights, seed, epoch):
    weights, number = np.array(weights), len(weights)
    counts = np.bincount(Weighted(weights).order(seed, epoch), minlength=number)
    expected = number * weights / weights.sum()
    assert counts.sum() == number
    assert (counts >= np.floor(expected - 1e-9)).all()
    assert (counts <= np.ceil(expected + 1e-9)).all()


def test_the_mean_over_epochs_is_what_is_expected():
    """The rest after rounding down is a Bernoulli variable of its mean: 4.5 standard errors, for each of 50 samples."""
    weights, epochs = np.random.default_rng(1).uniform(1, 6, 50), 4000
    expected = 50 * weights / weights.sum()
    weighted = Weighted(weights)
    np.testing.assert_allclose(weighted.expected, expected)
    mean = sum(np.bincount(weighted.order(0, epoch), minlength=50) for epoch in range(epochs)) / epochs
    rest = expected % 1
    assert (abs(mean - expected) <= 4.5 * np.sqrt(rest * (1 - rest) / epochs) + 1e-12).all()


def test_neighbours_are_drawn_independently_enough():
    """In the data set's own order one offset would tie neighbours together: of two with 2/3 each at least one."""
    weights = np.array([1.0] * 20 + [3.0] * 10 + [1.0] * 10)  # 30 of 2/3, 10 of 2
    both = [np.bincount(Weighted(weights).order(0, epoch), minlength=40)[:2].tolist() for epoch in range(400)]
    assert {(0, 1), (1, 0), (1, 1), (0, 0)} == set(map(tuple, both))


def test_repeats_of_a_sample_are_spread_over_the_epoch():
    weights = np.ones(400)
    weights[7] = 40
    places = [np.flatnonzero(Weighted(weights).order(0, epoch) == 7) for epoch in range(200)]
    assert abs(np.concatenate(places).mean() / 399 - 0.5) < 0.02
    assert np.mean([(np.diff(of) == 1).mean() for of in places]) < 0.2  # adjacent ones; all of them if not shuffled


@settings(max_examples=30, deadline=None)
@given(SIZES, st.floats(0.1, 30), SEEDS)
def test_equal_weights_give_the_order_of_uniform(number, weight, seed):
    assert Weighted(np.full(number, weight)).order(seed, 3).tolist() == Uniform(number).order(seed, 3).tolist()


def test_class_balanced_draws_by_the_repeat_factors_of_the_data_set(caplog):
    dataset = Partly("train", num_images=30, image_size=48, max_objects=2)
    seen = [set() if one.boxes is None else set(one.labels.tolist()) for one in dataset]
    number = sum(one.boxes is not None for one in dataset)
    share = {c: sum(c in of for of in seen) / number for c in range(5)}
    factors = [max([1.0, *(math.sqrt(0.5 / share[c]) for c in of)]) for of in seen]
    with caplog.at_level(logging.INFO):
        built = SAMPLERS.build(Component("class_balanced", {"threshold": 0.5, "over": "boxes"}), dataset, 4)
    assert built.expected.tolist() == pytest.approx([30 * factor / sum(factors) for factor in factors])
    rarest = min((c for c in range(5) if share[c]), key=share.get)
    first = f"{Shapes.classes.detection[rarest]} x {math.sqrt(0.5 / share[rarest]):.2f}"
    assert f"classes of the boxes are rare: {first}" in caplog.text
    assert f"{built.expected.min():.2f} to {built.expected.max():.2f} times an epoch" in caplog.text


def test_class_balanced_says_when_it_does_nothing(caplog):
    dataset = Shapes("train", num_images=8, image_size=32)
    built = SAMPLERS.build(Component("class_balanced", {"threshold": 0.001}), dataset, 4)
    assert "no class of the boxes is rarer than the threshold" in caplog.text
    assert "no class of the pixels is rarer than the threshold" in caplog.text
    assert built.order(1, 1).tolist() == Uniform(8).order(1, 1).tolist()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("class_balanced", {"threshold": 0}),
        ("class_balanced", {"threshold": 1.5}),
        ("class_balanced", {"threshold": "mean"}),
        ("class_balanced", {"over": "masks"}),
        ("annotated", {"share": 0}),
        ("annotated", {"share": 1.01}),
        ("uniform", {"share": 0.5}),
    ],
)
def test_options_that_there_are_not_are_refused(name, options):
    with pytest.raises(ValidationError):
        SAMPLERS.check_options(Component(name, options))


# -------------------------------------------------------------------------------------------------- annotated share


@st.composite
def shared(draw):
    flags = draw(st.lists(st.booleans(), min_size=2, max_size=60).filter(lambda of: 0 < sum(of) < len(of)))
    return np.array(flags), draw(st.integers(1, 20)), draw(st.floats(0.01, 1))


@settings(max_examples=150, deadline=None)
@given(shared(), SEEDS)
def test_each_batch_has_its_share_and_nothing_comes_too_often(case, seed):
    is_complete, size, share = case
    order = CompleteShare(is_complete, size, share).order(seed, 0).tolist()
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    own = [sum(is_complete[index] for index in batch) for batch in batches]
    assert len(order) == len(is_complete)
    assert all(number >= max(1, round(share * len(batch))) for number, batch in zip(own, batches, strict=True))
    assert all(number >= share * len(batch) - 1e-6 for number, batch in zip(own, batches, strict=True))
    counts = Counter(order)
    complete, others = ([counts[i] for i in np.flatnonzero(is_complete == flag)] for flag in (True, False))
    assert max(others) <= 1
    assert max(complete) - min(complete) <= 1
    needed = sum(math.ceil(share * len(batch) - 1e-9) for batch in batches)
    assert (sorted(order) == list(range(len(order)))) == (needed <= is_complete.sum())
    assert sum(own) == max(needed, is_complete.sum())


def test_what_is_absent_changes_from_epoch_to_epoch():
    is_complete = np.arange(40) < 8
    built = CompleteShare(is_complete, 8, 0.5)
    counts = sum(np.bincount(built.order(0, epoch), minlength=40) for epoch in range(300)) / 300
    np.testing.assert_allclose(counts[:8], 20 / 8, atol=0.15)  # 5 batches of 4
    np.testing.assert_allclose(counts[8:], 20 / 32, atol=0.15)


def test_places_in_a_batch_are_mixed():
    is_complete = np.arange(64) < 16
    built = CompleteShare(is_complete, 8, 0.25)
    complete = np.mean([is_complete[built.order(0, epoch)].reshape(-1, 8) for epoch in range(300)], axis=(0, 1))
    np.testing.assert_allclose(complete, 0.25, atol=0.04)


def test_annotated_takes_images_with_a_mask_and_boxes(caplog):
    dataset = Partly("train", num_images=12, image_size=32)
    with caplog.at_level(logging.INFO):
        built = SAMPLERS.build("annotated", dataset, 4)
    assert "annotated: 4 of 12 images have both a mask and boxes" in caplog.text
    batches = built.order(0, 0).reshape(3, 4)
    assert (np.isin(batches, [0, 1, 6, 7]).sum(axis=1) == 2).all()


@pytest.mark.parametrize(("index", "words"), [(0, "every image has"), (2, "no image has")])
def test_annotated_acts_as_uniform_where_all_or_none_are(index, words, caplog):
    class Alike(Partly):
        def sample(self, number):
            return super().sample(6 * number + index)

    built = SAMPLERS.build("annotated", Alike("train", num_images=5, image_size=32, seed=index), 2)
    assert f"'annotated' acts as 'uniform': {words} both a mask and boxes" in caplog.text
    assert built.order(2, 1).tolist() == Uniform(5).order(2, 1).tolist()
