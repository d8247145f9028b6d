"""The statistics of a data set as tables that a person can read."""

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np

from mtvision.data.preprocessing import Normalization
from mtvision.data.statistics.stats_records import (
    LARGE_SIDE,
    SMALL_SIDE,
    ClassBoxes,
    ClassPixels,
    DataStatistics,
    ImageCounts,
    ImageSizes,
    Matrix,
    Quantiles,
)
from mtvision.text_table import text_table

_PAIRS = 5  # of classes; the matrices have all


def statistics_text(stats: DataStatistics) -> str:
    """Return a block for each kind of numbers; what nobody annotated is left out."""
    blocks = [_images_text(stats.images), _channels_text(stats.normalization), _image_sizes_text(stats.image_sizes)]
    if stats.images.with_mask:
        blocks += [_masks_text(stats), *_pairs_text("masks", stats.class_pixels[1:], _without_background(stats))]
    if stats.images.with_boxes:
        blocks += [_boxes_text(stats), _objects_text(stats)]
        blocks += _pairs_text("boxes", stats.class_boxes, stats.box_cooccurrence)
    return "\n\n".join(blocks)


def _images_text(images: ImageCounts) -> str:
    return (
        f"{images.total:,} images, annotated: {images.with_mask:,} with a mask, {images.with_boxes:,} with boxes, "
        f"{images.with_both:,} with both, {images.with_neither:,} with neither"
    )


def _channels_text(normalization: Normalization) -> str:
    rows = [
        (name, *(f"{value:.4f}" for value in values or ()))
        for name, values in (("mean", normalization.mean), ("std", normalization.std))
    ]
    return text_table([("channels, in [0, 1]", "red", "green", "blue"), *rows])


def _image_sizes_text(sizes: ImageSizes) -> str:
    head = _quantile_head("image sizes, pixels")
    rows = [_quantile_row("height", sizes.height, ".0f"), _quantile_row("width", sizes.width, ".0f")]
    table = text_table([head, *rows, _quantile_row("width / height", sizes.aspect_ratio, ".3f")])
    return f"{table}\nnumber of sizes: {len(sizes.counts):,}, of ratios: {sizes.distinct_ratios:,}"


def _masks_text(stats: DataStatistics) -> str:
    head = ("class in masks", "pixels", "share", "images", "of them")
    rows = [
        (row.name, f"{row.pixels:,}", f"{row.share:.2%}", f"{row.images:,}", _share(row.images, stats.images.with_mask))
        for row in stats.class_pixels
    ]
    void = ("void (in all pixels)", f"{stats.void_pixels:,}", f"{stats.void_share:.2%}", "", "")
    return text_table([head, *rows, void])


def _boxes_text(stats: DataStatistics) -> str:
    total = sum(row.boxes for row in stats.class_boxes)
    head = ("class in boxes", "boxes", "share", "difficult", "images", "of them")
    rows = [_boxes_row(row, total, stats.images.with_boxes) for row in stats.class_boxes]
    difficult = sum(row.difficult for row in stats.class_boxes)
    filled = stats.images.with_boxes - (stats.objects_per_image.counts or (0,))[0]
    everything = ClassBoxes("all classes", total, filled, difficult)
    return text_table([head, *rows, _boxes_row(everything, total, stats.images.with_boxes)])


def _boxes_row(row: ClassBoxes, total: int, images: int) -> Sequence[str]:
    numbers = (f"{row.boxes:,}", _share(row.boxes, total), f"{row.difficult:,}", f"{row.images:,}")
    return (row.name, *numbers, _share(row.images, images))


def _objects_text(stats: DataStatistics) -> str:
    sizes, objects = stats.box_sizes, stats.objects_per_image
    measured = (
        ("side in pixels (root of the area)", sizes.pixels, ".1f"),
        ("side / image's side, likewise", sizes.image_share, ".3f"),
        ("objects an image", objects.quantiles, ".0f"),
    )
    rows = [_quantile_row(name, values, form) for name, values, form in measured if values is not None]
    kinds = (
        f"small (area below {SMALL_SIDE} x {SMALL_SIDE}): {sizes.small:,}, medium: {sizes.medium:,}, "
        f"large (from {LARGE_SIDE} x {LARGE_SIDE} on): {sizes.large:,}"
    )
    return f"{text_table([_quantile_head('boxes'), *rows])}\n{kinds}; {objects.mean:.2f} objects an image"


def _without_background(stats: DataStatistics) -> Matrix:
    return tuple(row[1:] for row in stats.mask_cooccurrence[1:])


def _pairs_text(where: str, rows: Sequence[ClassPixels] | Sequence[ClassBoxes], together: Matrix) -> list[str]:
    """Return the pairs of classes that are most often in one image, none where no two ever are."""
    counts = np.triu(np.array(together, dtype=np.int64).reshape(len(rows), len(rows)), k=1)
    order = np.argsort(-counts, axis=None, kind="stable")[:_PAIRS]
    pairs = [(int(place) // len(rows), int(place) % len(rows)) for place in order]
    found = [f"{rows[i].name} and {rows[j].name} ({counts[i, j]:,})" for i, j in pairs if counts[i, j] > 0]
    return [f"most often together in the {where} of an image: {', '.join(found)}"] if found else []


def _quantile_head(title: str) -> Sequence[str]:
    return (title, "min", "5 %", "25 %", "median", "75 %", "95 %", "max")


def _quantile_row(title: str, values: Quantiles, form: str) -> Sequence[str]:
    return (title, *(format(value, form) for value in astuple(values)))


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
