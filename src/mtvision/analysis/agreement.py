"""Whether the two tasks of one network say the same: what the mask has in each box, which box has each region.

The same measures of true masks and true boxes tell what the data itself disagrees about: no model can do better.
"""

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtvision.errors import DataError
from mtvision.types import VOID, Classes

VERDICTS = ("agrees", "another_class", "nothing_there", "no_pixels")
"""What a mask can say about a box, see `judge_boxes`."""

LEAST_SHARE = 0.1
"""Of the pixels of a box that a class must have to be there: a thin object fills little of its box."""

LEAST_REGION = 0.001
"""Share of the image from which on a region of a mask should have a box: 14 x 14 pixels of 500 x 375."""

LEAST_COVER = 0.5
"""Share of a region's pixels that a box must hold to be its box."""

_BOX = ["x1", "y1", "x2", "y2"]


class BoxShares(NamedTuple):
    """What a mask has in each box; shares of the pixels that are not void, NaN where there is none.

    Attributes:
        own: ``(B,)`` of the box's own class.
        background: ``(B,)``.
        other: ``(B,)`` of all further classes together.
        dominant: ``(B,)`` which further class has most pixels, -1 for none; of equal ones the first.
        dominant_share: ``(B,)`` of that class, 0 for none.
    """

    own: NDArray[np.float64]
    background: NDArray[np.float64]
    other: NDArray[np.float64]
    dominant: NDArray[np.int64]
    dominant_share: NDArray[np.float64]


def mask_partners(classes: Classes) -> dict[int, int]:
    """Return the mask value of each box label whose class has the same name in both tasks.

    Names are equal or not: case and spelling count. A label without a partner is left out, as is the background.

    Example:
        >>> mask_partners(Classes(("background", "cat", "sky"), ("dog", "cat")))
        {1: 1}
    """
    values = {name: value for value, name in enumerate(classes.segmentation) if value > 0}
    return {label: values[name] for label, name in enumerate(classes.detection) if name in values}


def box_shares(mask: NDArray[np.integer], boxes: NDArray[np.floating], own: NDArray[np.int64]) -> BoxShares:
    """Return what the mask has in each box. A pixel is in a box if its centre is.

    Args:
        mask: ``(H, W)`` in [0, 255], 255 = void.
        boxes: ``(B, 4)`` xyxy pixels; what is outside the image does not count.
        own: ``(B,)`` mask value of each box's class.

    Raises:
        DataError: as in `pixel_ranges`.

    Example:
        >>> mask = np.array([[0, 0, 1, 1], [0, 0, 1, 2]], dtype=np.uint8)
        >>> shares = box_shares(mask, np.array([[1.0, 0.0, 4.0, 2.0], [0.0, 0.0, 0.2, 0.2]]), np.array([1, 1]))
        >>> shares.own.tolist(), shares.dominant.tolist()
        ([0.5, nan], [2, -1])
    """
    counts = np.zeros((len(boxes), VOID + 1), dtype=np.int64)
    for row, (left, top, right, bottom) in enumerate(pixel_ranges(boxes, mask.shape)):
        counts[row] = np.bincount(mask[top:bottom, left:right].ravel(), minlength=VOID + 1)
    each = np.arange(len(boxes))
    total = counts[:, :VOID].sum(axis=1)
    shares = np.divide(
        counts[:, :VOID], total[:, None], out=np.full((len(boxes), VOID), np.nan), where=total[:, None] > 0
    )
    further = counts[:, :VOID].copy()
    further[:, 0], further[each, own] = 0, 0
    dominant = further.argmax(axis=1)
    return BoxShares(
        own=shares[each, own],
        background=shares[:, 0],
        other=np.where(total > 0, further.sum(axis=1) / np.maximum(total, 1), np.nan),
        dominant=np.where(further.any(axis=1), dominant, -1),
        dominant_share=np.where(total > 0, further[each, dominant] / np.maximum(total, 1), np.nan),
    )


def pixel_ranges(boxes: NDArray[np.floating], size: tuple[int, ...]) -> NDArray[np.int64]:
    """Return which pixels have their centre in each box, as ranges ``(B, 4)``: left, top, right, bottom, half-open.

    A centre on the left or upper edge is inside, on the right or lower one outside, so boxes that touch share no pixel.

    Args:
        boxes: ``(B, 4)`` xyxy pixels.
        size: ``(H, W)`` of the image, to which the ranges are cut.

    Raises:
        DataError: if a box is not finite.

    Example:
        >>> pixel_ranges(np.array([[0.5, 0.6, 2.5, 9.0]]), (4, 4)).tolist()
        [[0, 1, 2, 4]]
    """
    if not np.isfinite(boxes).all():
        raise DataError(f"expected finite boxes, got {boxes[~np.isfinite(boxes).all(axis=1)][0].tolist()}")
    height, width = size
    edges = np.ceil(np.asarray(boxes, dtype=np.float64) - 0.5).clip(0, [width, height, width, height])
    return edges.astype(np.int64)


def judge_boxes(
    mask: NDArray[np.integer],
    boxes: NDArray[np.floating],
    labels: NDArray[np.int64],
    scores: NDArray[np.floating],
    partners: Mapping[int, int],
    least_share: float = LEAST_SHARE,
) -> pd.DataFrame:
    """Return what the mask says about each box of an image whose class has a partner.

    The verdict is

    * ``agrees``: at least ``least_share`` of the box's pixels are of its own class,
    * ``another_class``: they are not, but so many are of one further class,
    * ``nothing_there``: neither is so,
    * ``no_pixels``: there is nothing to look at: no pixel's centre is in the box, or all are void.

    Of 1,618 true boxes in COCO photographs, one had less than a tenth of its own class in the true mask, and the
    median had 0.6: a verdict other than ``agrees`` is hardly due to the shape of an object.

    Args:
        mask: ``(H, W)`` in [0, 255], 255 = void.
        boxes: ``(B, 4)`` xyxy pixels.
        labels: ``(B,)``.
        scores: ``(B,)``; 1 for true boxes.
        partners: of `mask_partners`.
        least_share: fraction in (0, 1].

    Returns:
        Columns ``row`` (index of the box), ``label``, ``score``, ``x1, y1, x2, y2``, those of `BoxShares`, ``verdict``
        and ``agrees`` (of the type ``boolean``, missing where there are no pixels).

    Example:
        >>> mask, box = np.array([[0, 0, 1, 1]], dtype=np.uint8), np.array([[1.0, 0.0, 4.0, 1.0]])
        >>> judge_boxes(mask, box, np.array([4]), np.array([0.9]), {4: 1, 5: 2})["verdict"].item()
        'agrees'
        >>> judge_boxes(mask, box, np.array([5]), np.array([0.9]), {4: 1, 5: 2})["verdict"].item()
        'another_class'
    """
    rows = np.flatnonzero(np.isin(labels, list(partners)))
    own = np.array([partners[int(label)] for label in labels[rows]], dtype=np.int64)
    shares = box_shares(mask, boxes[rows], own)
    verdict = np.select(
        [np.isnan(shares.own), shares.own >= least_share, shares.dominant_share >= least_share],
        [VERDICTS[3], VERDICTS[0], VERDICTS[1]],
        VERDICTS[2],
    )
    columns = {"row": rows, "label": labels[rows], "score": scores[rows].astype(np.float64)}
    columns |= dict(zip(_BOX, boxes[rows].astype(np.float64).T, strict=True)) | shares._asdict()
    agrees = pd.array(verdict == VERDICTS[0], dtype="boolean")
    agrees[verdict == VERDICTS[3]] = pd.NA
    return pd.DataFrame({**columns, "verdict": pd.Categorical(verdict, VERDICTS), "agrees": agrees})


def judge_regions(
    mask: NDArray[np.integer],
    boxes: NDArray[np.floating],
    labels: NDArray[np.int64],
    scores: NDArray[np.floating],
    partners: Mapping[int, int],
    least_region: float = LEAST_REGION,
    least_cover: float = LEAST_COVER,
) -> pd.DataFrame:
    """Return what the boxes say about each region of the mask whose class has a partner.

    A region is connected over edges and corners of pixels. Its box is one of its class that holds at least
    ``least_cover`` of its pixels. Objects of one class that touch are one region, which each box alone may hold too
    little of; so judge the true annotations too: of 1,182 true regions in COCO photographs 2 % had no box.

    Args:
        mask: ``(H, W)`` in [0, 255], 255 = void.
        boxes: ``(B, 4)`` xyxy pixels.
        labels: ``(B,)``.
        scores: ``(B,)`` not negative; 1 for true boxes.
        partners: of `mask_partners`.
        least_region: share of the image; smaller regions are left out.
        least_cover: fraction in (0, 1].

    Returns:
        Columns ``label``, ``mask_value``, ``area`` (pixels), ``x1, y1, x2, y2`` (extent), ``cover`` (largest share of
        it in one box of its class), ``score`` (highest of its boxes, NaN for none), ``agrees`` (whether there is one).

    Example:
        >>> mask, box = np.array([[0, 0, 1, 1]], dtype=np.uint8), np.array([[1.0, 0.0, 4.0, 1.0]])
        >>> judge_regions(mask, box, np.array([4]), np.array([0.9]), {4: 1})["score"].item()
        0.9
    """
    least_area = least_region * mask.size
    ranges = pixel_ranges(boxes, mask.shape)
    rows: list[tuple[float, ...]] = []
    for label, value in partners.items():
        own = labels == label
        rows += [
            (label, value, *row) for row in _regions(mask == value, ranges[own], scores[own], least_area, least_cover)
        ]
    frame = pd.DataFrame(rows, columns=["label", "mask_value", "area", *_BOX, "cover", "score"], dtype=np.float64)
    frame = frame.astype({"label": np.int64, "mask_value": np.int64, "area": np.int64})
    return frame.assign(agrees=frame["score"].notna())


def _regions(
    pixels: NDArray[np.bool_],
    ranges: NDArray[np.int64],
    scores: NDArray[np.floating],
    least_area: float,
    least_cover: float,
) -> list[tuple[float, ...]]:
    """Return area, extent, cover and score of each region of one class; ``ranges`` and ``scores`` are of its boxes."""
    if not pixels.any():
        return []
    count, places, stats, _ = cv2.connectedComponentsWithStats(pixels.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    cover = np.zeros((1 + len(ranges), count))  # the first row holds nothing, so that there is a largest one
    for row, (left, top, right, bottom) in enumerate(ranges, start=1):
        cover[row] = np.bincount(places[top:bottom, left:right].ravel(), minlength=count) / np.maximum(areas, 1)
    best = np.where(cover[1:] >= least_cover, scores[:, None], -np.inf).max(axis=0, initial=-np.inf)
    best = np.where(np.isneginf(best), np.nan, best)
    left, top, width, height = stats[:, :4].T
    table = np.stack([areas, left, top, left + width, top + height, cover.max(axis=0), best], axis=1)
    return [tuple(row) for row in table[1:][areas[1:] >= least_area].tolist()]
