"""What masks and boxes say about each other: cases drawn by hand, and the same counted pixel by pixel."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from mtvision.analysis.agreement import (
    box_shares,
    judge_boxes,
    judge_regions,
    mask_partners,
    pixel_ranges,
)
from mtvision.data import VOC
from mtvision.errors import DataError
from mtvision.types import VOID, Classes

PARTNERS = {0: 1, 1: 2, 3: 4}  # label 2 and mask value 3 have none


def drawn(picture):
    """Return the mask of a drawing: a digit a pixel, ``.`` the background and ``v`` void."""
    values = {".": 0, "v": VOID}
    return np.array([[values.get(sign, sign) for sign in line] for line in picture.split()]).astype(np.uint8)


def said(judge, mask, boxes, labels, scores=None, **options):
    scores = np.linspace(0.9, 0.5, len(labels)) if scores is None else np.array(scores)
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return judge(mask, boxes, np.array(labels, dtype=np.int64), scores, PARTNERS, **options)


def test_partners_have_equal_names():
    classes = Classes(("background", "cat", "Dog", "tv", "sky"), ("tv", "dog", "background", "cat"))
    assert mask_partners(classes) == {0: 3, 3: 1}
    assert mask_partners(Classes(("background", "sky"), ("cat",))) == {}


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 1, 1), (0, 0, 1, 1)),
        ((0.4, 0.4, 1.6, 1.6), (0, 0, 2, 2)),
        ((0.6, 0.6, 1.4, 1.4), (1, 1, 1, 1)),
        ((0.5, 0.5, 1.5, 1.5), (0, 0, 1, 1)),  # centres at 0.5: on the left edge in, on the right one out
        ((-9, -9, 99, 99), (0, 0, 6, 4)),
        ((-9, -9, -1, -1), (0, 0, 0, 0)),
        ((7, 7, 9, 9), (6, 4, 6, 4)),
    ],
)
def test_a_pixel_is_in_a_box_if_its_centre_is(box, expected):
    assert tuple(pixel_ranges(np.array([box], dtype=np.float64), (4, 6))[0]) == expected


def test_boxes_that_touch_share_the_pixels_between_them():
    cuts = np.sort(np.random.default_rng(0).random(9) * 6)
    boxes = np.array([[left, 0, right, 4] for left, right in zip(np.r_[0, cuts], np.r_[cuts, 6], strict=True)])
    ranges = pixel_ranges(boxes, (4, 6))
    assert np.concatenate([np.arange(left, right) for left, _, right, _ in ranges]).tolist() == list(range(6))


edge = st.floats(-3, 12, width=32)
boxes_of_an_image = st.lists(st.tuples(edge, edge, edge, edge, st.sampled_from([0, 1, 3])), max_size=5)
masks = arrays.arrays(np.uint8, (7, 9), elements=st.sampled_from([0, 1, 2, 3, 4, VOID]))


def inside(box, shape):
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])


@settings(max_examples=25, deadline=None)
@given(masks, boxes_of_an_image)
def test_shares_are_those_of_the_pixels_counted_one_by_one(mask, rows):
    boxes = np.array([row[:4] for row in rows]).reshape(-1, 4)
    own = np.array([PARTNERS[row[4]] for row in rows], dtype=np.int64)
    shares = box_shares(mask, boxes, own)
    for row, (box, value) in enumerate(zip(boxes, own, strict=True)):
        seen = [pixel for pixel in mask[inside(box, mask.shape)].tolist() if pixel != VOID]
        if not seen:
            assert np.isnan([column[row] for column in shares if column is not shares.dominant]).all()
            assert shares.dominant[row] == -1
            continue
        further = [pixel for pixel in seen if pixel not in (0, value)]
        assert shares.own[row] == pytest.approx(seen.count(value) / len(seen))
        assert shares.background[row] == pytest.approx(seen.count(0) / len(seen))
        assert shares.other[row] == pytest.approx(len(further) / len(seen))
        best = max(sorted(set(further)), key=further.count, default=-1)
        assert shares.dominant[row] == best
        assert shares.dominant_share[row] == pytest.approx(further.count(best) / len(seen))


SCENE = drawn("""
    11........
    11...2....
    .....2..33
    .....2..33
    vv...2....
""")


def test_verdicts_by_hand():
    boxes = [[0, 0, 2, 2], [3, 0, 8, 5], [3, 0, 8, 5], [2, 0, 5, 5], [0, 4, 2, 5], [0.6, 0, 1.4, 1], [5, 2, 10, 4]]
    frame = said(judge_boxes, SCENE, boxes, [0, 1, 0, 3, 0, 0, 1])
    assert frame["verdict"].tolist() == [
        "agrees",
        "agrees",  # a thin object: 4 of 25 pixels
        "another_class",  # nothing of class 1, the same 4 of class 2
        "nothing_there",
        "no_pixels",  # void
        "no_pixels",  # no centre of a pixel
        "agrees",  # 2 of 10 are its own, though 4 are of another class
    ]
    assert frame["own"].tolist() == pytest.approx([1, 0.16, 0, 0, np.nan, np.nan, 0.2], nan_ok=True)
    assert frame["dominant"].tolist() == [-1, -1, 2, -1, -1, -1, 3]
    assert frame["agrees"].isna().tolist() == [False] * 4 + [True] * 2 + [False]
    assert frame["agrees"].dropna().tolist() == [True, True, False, False, True]
    strict = said(judge_boxes, SCENE, boxes, [0, 1, 0, 3, 0, 0, 1], least_share=0.25)
    assert strict["verdict"].tolist()[:4] == ["agrees", *["nothing_there"] * 3]
    assert strict["verdict"].tolist()[6] == "another_class"


def test_exactly_the_least_share_is_enough():
    mask = drawn("1.........")
    assert said(judge_boxes, mask, [[0, 0, 10, 1]], [0])["verdict"].item() == "agrees"
    assert said(judge_boxes, mask, [[0, 0, 10, 1]], [1])["verdict"].item() == "another_class"
    assert said(judge_boxes, drawn("1.........."), [[0, 0, 11, 1]], [0])["verdict"].item() == "nothing_there"


def test_labels_without_a_partner_are_left_out_and_rows_tell_which_remain():
    frame = said(judge_boxes, SCENE, [[0, 0, 2, 2], [0, 0, 2, 2], [5, 1, 6, 5]], [2, 0, 1], [0.1, 0.2, 0.3])
    assert frame[["row", "label", "score"]].values.tolist() == [[1, 0, 0.2], [2, 1, 0.3]]
    assert frame.loc[1, ["x1", "y1", "x2", "y2"]].tolist() == [5, 1, 6, 5]
    assert said(judge_regions, drawn("33"), [], []).empty


def test_no_boxes_and_boxes_that_cannot_be():
    empty, full = said(judge_boxes, SCENE, [], []), said(judge_boxes, SCENE, [[0, 0, 2, 2]], [0])
    assert empty.empty
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    joined = pd.concat([empty, full])
    assert joined.dtypes.to_dict() == full.dtypes.to_dict()
    with pytest.raises(DataError, match=r"finite boxes, got \[0.0, nan"):
        said(judge_boxes, SCENE, [[0, np.nan, 1, 1]], [0])


def test_regions_by_hand():
    mask = drawn("""
        1.1...
        .11..2
        .....2
        4444..
    """)  # the corner of the first pixel joins it to the others
    frame = said(
        judge_regions, mask, [[1, 0, 3, 2], [1, 0, 3, 1], [5, 1, 6, 2], [0, 3, 1, 4], [0, 0, 9, 9]], [0, 0, 1, 3, 0]
    )
    assert frame["mask_value"].tolist() == [1, 2, 4]
    assert frame["area"].tolist() == [4, 2, 4]
    assert frame[["x1", "y1", "x2", "y2"]].values.tolist() == [[0, 0, 3, 2], [5, 1, 6, 3], [0, 3, 4, 4]]
    assert frame["cover"].tolist() == [1.0, 0.5, 0.25]
    assert frame["score"].tolist() == pytest.approx([0.9, 0.7, np.nan], nan_ok=True)
    assert frame["agrees"].tolist() == [True, True, False]
    loose = said(judge_regions, mask, [[0, 3, 1, 4]], [3], [0.4], least_cover=0.25)
    assert loose["score"].tolist() == pytest.approx([np.nan, np.nan, 0.4], nan_ok=True)
    assert said(judge_regions, mask, [[0, 0, 9, 9]], [0], least_region=4 / 24)["area"].tolist() == [4, 4]


def test_no_regions_have_the_columns_of_some():
    empty, full = said(judge_regions, drawn(".."), [], []), said(judge_regions, drawn("12"), [], [])
    assert empty.empty
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert full["agrees"].tolist() == [False, False]
    assert full["score"].isna().all()
    assert full["cover"].tolist() == [0, 0]


@settings(max_examples=25, deadline=None)
@given(masks, boxes_of_an_image)
def test_regions_are_those_of_scipy(mask, rows):
    boxes = [row[:4] for row in rows]
    labels, scores = [row[4] for row in rows], [0.1 * (1 + row) for row in range(len(rows))]
    frame = said(judge_regions, mask, boxes, labels, scores, least_region=2 / mask.size)
    expected = []
    for label, value in PARTNERS.items():
        places, count = ndimage.label(mask == value, structure=np.ones((3, 3)))
        for place in range(1, count + 1):
            region = places == place
            held = {
                score: (region & inside(box, mask.shape)).sum() / region.sum()
                for box, own, score in zip(boxes, labels, scores, strict=True)
                if own == label
            }
            best = max((score for score, cover in held.items() if cover >= 0.5), default=np.nan)
            if region.sum() >= 2:
                expected.append((value, region.sum(), max(held.values(), default=0), best))
    found = frame[["mask_value", "area", "cover", "score"]].to_numpy(dtype=float)
    by_size = [sorted(map(tuple, np.nan_to_num(np.array(table).reshape(-1, 4), nan=-1))) for table in (found, expected)]
    np.testing.assert_allclose(*by_size)


def test_true_masks_and_true_boxes_of_photographs_mostly_agree(real_pack):
    """The threshold of a verdict is low enough for thin objects, and both measures read pixels where boxes are."""
    dataset = VOC(real_pack("coco_voc20"), "val")
    partners = mask_partners(dataset.classes)
    assert partners == {label: label + 1 for label in range(20)}
    boxes, regions = [], []
    for sample in (dataset[index] for index in range(12)):
        truth = (sample.mask, sample.boxes, sample.labels, np.ones(len(sample.boxes)), partners)
        boxes.append(judge_boxes(*truth)[~sample.difficult])
        regions.append(judge_regions(*truth))
    assert pd.concat(boxes)["agrees"].mean() > 0.97
    assert pd.concat(regions)["agrees"].mean() > 0.9
