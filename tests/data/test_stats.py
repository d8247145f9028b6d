"""The statistics of a data set, against pandas, torch and pycocotools."""

import math
import random
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import Params

from mtvision.data import Classes, Shapes, compute_statistics, stats
from mtvision.data.statistics import class_counts
from mtvision.errors import DataError
from mtvision.losses.class_counts import balanced_weights, median_frequency_weights
from mtvision.types import VOID, Sample

CLASSES = Shapes.classes


def sample(size=(20, 30), *, boxes=None, labels=None, difficult=None, mask=None, name="a", value=0):
    """Return a sample of one colour; boxes of label 0 that are not difficult unless said."""
    number = None if boxes is None else len(boxes)
    return Sample(
        image=np.full((*size, 3), value, np.uint8),
        mask=mask,
        boxes=None if boxes is None else np.array(boxes, np.float32).reshape(-1, 4),
        labels=None if boxes is None else np.array(labels or [0] * number, np.int64),
        difficult=None if boxes is None else np.array(difficult or [False] * number, bool),
        image_id=name,
        original_size=size,
    )


def mixed(number=12, seed=0):
    """Return images of several sizes, every third without a mask, every fourth without boxes, some void."""
    sizes = (64, (48, 80), (80, 48), (32, 48))
    samples = []
    for index in range(number):
        one = Shapes("train", num_images=number, image_size=sizes[index % 4 - 1], seed=seed, max_objects=3)[index]
        if index % 3 == 0:
            one = replace(one, mask=None)
        elif index % 3 == 1:
            one.mask[:3] = VOID
        if index % 4 == 0:
            one = replace(one, boxes=None, labels=None, difficult=None, instances=None)
        else:
            one.difficult[:1] = True
        samples.append(one)
    return samples


@pytest.fixture(scope="module")
def samples():
    return mixed()


@pytest.fixture(scope="module")
def found(samples):
    return stats(samples, classes=CLASSES)


@pytest.fixture(scope="module")
def objects(samples):
    """Return a row a box."""
    rows = [
        {"image": index, "label": label, "difficult": hard, "area": (x1 - x0) * (y1 - y0), "of": one.mask_size}
        for index, one in enumerate(map(_Sized, samples))
        if one.sample.boxes is not None
        for (x0, y0, x1, y1), label, hard in zip(
            one.sample.boxes.tolist(), one.sample.labels.tolist(), one.sample.difficult.tolist(), strict=True
        )
    ]
    return pd.DataFrame(rows)


class _Sized:
    def __init__(self, one):
        self.sample, self.mask_size = one, one.image.shape[0] * one.image.shape[1]


def test_images_are_counted_by_what_somebody_annotated(samples, found):
    table = pd.DataFrame({"m": [s.mask is not None for s in samples], "b": [s.boxes is not None for s in samples]})
    wanted = (len(table), table.m.sum(), table.b.sum(), (table.m & table.b).sum(), (~table.m & ~table.b).sum())
    assert tuple(asdict(found.images).values()) == wanted == (12, 8, 9, 6, 1)


def test_mean_and_deviation_are_those_of_torch_and_of_compute_statistics(samples, found):
    pixels = torch.cat([torch.from_numpy(one.image).reshape(-1, 3) for one in samples]).double() / 255
    assert found.normalization.mean == pytest.approx(pixels.mean(0).tolist(), rel=1e-12)
    assert found.normalization.std == pytest.approx(pixels.std(0, correction=0).tolist(), rel=1e-12)
    assert found.normalization == compute_statistics(samples)


def test_pixels_of_classes_are_those_of_pandas(samples, found):
    masks = [one.mask for one in samples if one.mask is not None]
    rows = pd.concat([pd.DataFrame({"image": i, "value": mask.ravel()}) for i, mask in enumerate(masks)])
    known = rows[rows.value != VOID]
    counts = known.value.value_counts().reindex(range(6), fill_value=0)
    images = known.groupby("value").image.nunique().reindex(range(6), fill_value=0)
    assert [row.name for row in found.class_pixels] == list(CLASSES.segmentation)
    assert [row.pixels for row in found.class_pixels] == counts.tolist()
    assert [row.images for row in found.class_pixels] == images.tolist()
    assert [row.share for row in found.class_pixels] == pytest.approx((counts / len(known)).tolist())
    assert found.void_pixels == (rows.value == VOID).sum() > 0
    assert found.void_share == pytest.approx((rows.value == VOID).mean())
    present = pd.crosstab(known.image, known.value).clip(upper=1).reindex(columns=range(6), fill_value=0)
    assert np.array_equal(found.mask_cooccurrence, present.T @ present)


def test_boxes_of_classes_are_those_of_pandas(objects, found):
    by_label = objects.groupby("label")
    assert [row.name for row in found.class_boxes] == list(CLASSES.detection)
    for attribute, wanted in (
        ("boxes", by_label.size()),
        ("images", by_label.image.nunique()),
        ("difficult", by_label.difficult.sum()),
    ):
        assert [getattr(row, attribute) for row in found.class_boxes] == wanted.reindex(range(5)).fillna(0).tolist()
    present = pd.crosstab(objects.image, objects.label).clip(upper=1).reindex(columns=range(5), fill_value=0)
    assert np.array_equal(found.box_cooccurrence, present.T @ present)


def test_sizes_and_numbers_of_boxes_are_those_of_pandas(samples, objects, found):
    at = [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]
    sizes = found.box_sizes
    assert tuple(asdict(sizes.pixels).values()) == pytest.approx((objects.area**0.5).quantile(at).tolist(), rel=1e-6)
    shares = (objects.area / objects.of) ** 0.5
    assert tuple(asdict(sizes.image_share).values()) == pytest.approx(shares.quantile(at).tolist(), rel=1e-6)
    numbers = pd.Series([len(one.boxes) for one in samples if one.boxes is not None])
    assert tuple(asdict(found.objects_per_image.quantiles).values()) == pytest.approx(numbers.quantile(at).tolist())
    assert found.objects_per_image.mean == pytest.approx(numbers.mean())
    assert list(found.objects_per_image.counts) == np.bincount(numbers).tolist()
    for values, histogram in (
        (objects.area**0.5, sizes.pixels_histogram),
        (shares, sizes.share_histogram),
    ):
        assert list(histogram.counts) == np.histogram(values, histogram.edges)[0].tolist()
        assert sum(histogram.counts) == len(objects)


def test_image_sizes_are_those_of_pandas(samples, found):
    table = pd.DataFrame([one.image.shape[:2] for one in samples], columns=["h", "w"])
    sizes = found.image_sizes
    for values, quantiles in ((table.h, sizes.height), (table.w, sizes.width), (table.w / table.h, sizes.aspect_ratio)):
        assert [quantiles.min, quantiles.p25, quantiles.median, quantiles.max] == pytest.approx(
            values.quantile([0, 0.25, 0.5, 1]).tolist()
        )
    assert sizes.counts == tuple((h, w, n) for (h, w), n in table.value_counts(["h", "w"]).sort_index().items())
    assert sizes.distinct_ratios == 4


def test_small_medium_and_large_part_at_the_areas_of_pycocotools():
    """COCO's ranges share their ends: its own text has medium above 32 x 32; here each box is of one kind."""
    limits = dict(zip(Params("bbox").areaRngLbl, Params("bbox").areaRng, strict=True))
    assert (limits["small"][1], limits["medium"], limits["large"][0]) == (32**2, [32**2, 96**2], 96**2)
    for sides, kinds in {
        ((31, 32),): (1, 0, 0),
        ((32, 32), (16, 64)): (0, 2, 0),
        ((96, 95.5),): (0, 1, 0),
        ((96, 96), (48, 192)): (0, 0, 2),
    }.items():
        sizes = stats([sample((200, 200), boxes=[(0, 0, *side) for side in sides])], classes=CLASSES).box_sizes
        assert (sizes.small, sizes.medium, sizes.large) == kinds


def test_a_box_over_the_edge_is_measured_as_it_is_trained_on():
    sizes = stats([sample((20, 30), boxes=[(-0.75, 0, 30.5, 20)])], classes=CLASSES).box_sizes
    assert sizes.pixels.max == pytest.approx(math.sqrt(600))
    assert sizes.image_share.max == 1
    assert sizes.share_histogram.counts == (1,)
    assert sizes.share_histogram.edges[-1] == 1


def test_class_weights_can_be_made_of_them(samples, found):
    wanted = class_counts.class_pixel_counts(samples, 6, cache=False)
    for own, other in zip(found.class_counts, wanted, strict=True):
        assert np.array_equal(own, other)
    for rule in (balanced_weights, median_frequency_weights):
        assert np.array_equal(rule(found.class_counts), rule(wanted))


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 9))
def test_order_does_not_matter(shuffler: random.Random, number: int):
    one = mixed(number)
    other = one.copy()
    shuffler.shuffle(other)
    assert stats(one, classes=CLASSES) == stats(other, classes=CLASSES)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6))
def test_the_counts_of_two_data_sets_add_up(first: int, second: int):
    parts = mixed(first, seed=1), mixed(second, seed=2)
    parts[1][:] = [replace(one, image_id=f"other-{one.image_id}") for one in parts[1]]
    a, b, both = (_counts(stats(part, classes=CLASSES)) for part in (*parts, parts[0] + parts[1]))
    assert all(np.array_equal(a[name] + b[name], both[name]) for name in both)


def _counts(found):
    sizes = found.box_sizes
    objects = np.zeros(8, int)
    objects[: len(found.objects_per_image.counts)] = found.objects_per_image.counts
    return {
        "images": np.array(list(asdict(found.images).values())),
        "pixels": np.array([(row.pixels, row.images, row.image_pixels) for row in found.class_pixels]),
        "void": np.array(found.void_pixels),
        "boxes": np.array([(row.boxes, row.images, row.difficult) for row in found.class_boxes]),
        "kinds": np.array([sizes.small, sizes.medium, sizes.large]),
        "objects": objects,
        "together": np.array([*found.mask_cooccurrence]),
        "boxes together": np.array([*found.box_cooccurrence]),
    }


def test_nobody_looked_is_not_nothing_there():
    looked, unseen = sample(boxes=[]), sample()
    found = stats([looked, unseen, unseen], classes=CLASSES)
    assert (found.images.with_boxes, found.images.with_neither) == (1, 2)
    assert found.objects_per_image.counts == (1,)
    assert found.objects_per_image.mean == 0
    assert found.box_sizes.pixels is None
    assert found.box_sizes.pixels_histogram.counts == ()
    assert [row.boxes for row in found.class_boxes] == [0] * 5
    nothing = stats([unseen], classes=CLASSES)
    assert nothing.objects_per_image.quantiles is None
    assert nothing.objects_per_image.counts == ()
    assert (nothing.void_share, nothing.class_pixels[0].share) == (0, 0)


@pytest.mark.parametrize(
    ("one", "present", "absent"),
    [
        (sample(), "0 with a mask, 0 with boxes", "class in"),
        (sample(boxes=[]), "disc 0 - 0 0 0.0% square", "class in masks"),
        (sample(mask=np.full((20, 30), VOID, np.uint8)), "void (in all pixels) 600 100.00%", "class in boxes"),
        (sample(boxes=[(0, 0, 10, 10)], difficult=[True]), "disc 1 100.0% 1 1 100.0% square", "most often"),
    ],
)
def test_the_table_has_what_was_annotated_and_nothing_else(one, present, absent):
    text = " ".join(str(stats([one], classes=CLASSES)).split())
    assert present in text
    assert absent not in text


def test_the_table_names_the_numbers(found):
    text = str(found)
    assert text.startswith("12 images, annotated: 8 with a mask, 9 with boxes, 6 with both, 1 with neither\n")
    cells = [line.split() for line in text.splitlines()]
    for row in found.class_pixels:
        share, of_them = f"{100 * row.share:.2f}%", f"{100 * row.images / 8:.1f}%"
        assert [row.name, f"{row.pixels:,}", share, str(row.images), of_them] in cells
    total = sum(row.boxes for row in found.class_boxes)
    for boxes in found.class_boxes:
        numbers = (f"{100 * boxes.boxes / total:.1f}%", boxes.difficult, boxes.images, f"{100 * boxes.images / 9:.1f}%")
        assert [boxes.name, str(boxes.boxes), *map(str, numbers)] in cells
    assert f"small (area below 32 x 32): {found.box_sizes.small}" in text
    together = np.triu(np.array(found.box_cooccurrence), 1)
    first, second = np.unravel_index(together.argmax(), together.shape)
    names = CLASSES.detection
    assert f"boxes of an image: {names[first]} and {names[second]} ({together.max()})" in text


def test_one_class_and_none():
    mask = np.zeros((20, 30), np.uint8)
    one = stats([sample(mask=mask, boxes=[(0, 0, 5, 5)])], classes=Classes(("background",), ("thing",)))
    assert (one.mask_cooccurrence, one.box_cooccurrence) == (((1,),), ((1,),))
    assert "together" not in str(one)
    none = stats([sample(), sample(boxes=[])], classes=Classes((), ()))
    assert (none.class_pixels, none.class_boxes, none.mask_cooccurrence) == ((), (), ())
    assert "2 images" in str(none)


def test_every_item_is_read_once_and_told():
    reads, told = [], []

    class Counting(Shapes):
        def sample(self, index):
            reads.append(index)
            return super().sample(index)

    stats(Counting("train", num_images=5, image_size=32), progress=lambda done, total: told.append((done, total)))
    assert reads == list(range(5))
    assert told == [(number, 5) for number in range(1, 6)]


@pytest.mark.parametrize(
    ("dataset", "classes", "sentence"),
    [
        ([], CLASSES, "the statistics of an empty data set are not defined"),
        ([sample()], None, "the data set has no attribute 'classes'"),
        ([sample()], ("a", "b"), "classes: expected an mtvision.Classes, got tuple"),
        ([sample(boxes=[(0, 0, 5, 5)], labels=[7])], CLASSES, "image 'a': a box has the label 7, .* 0 to 4"),
        ([sample(mask=np.full((20, 30), 9, np.uint8))], CLASSES, "image 'a': its mask has class 9, .* 0 to 5"),
        ([sample(), sample(boxes=[(5, 5, 5, 9)])], CLASSES, "item 1: image 'a': the box .* is empty"),
    ],
)
def test_what_cannot_be_counted_is_one_sentence(dataset, classes, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        stats(dataset, classes=classes)
    assert "\n" not in str(caught.value)
