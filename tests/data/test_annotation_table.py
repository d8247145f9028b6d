"""Which image is annotated for what, with which classes: against a loop over the samples, and kept for later."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from mtvision.data import VOC, Shapes, annotation_table, compute_statistics, fingerprint, stats
from mtvision.data.statistics.class_counts import class_pixel_counts
from mtvision.errors import DataError
from mtvision.types import VOID, Classes


class Partly(Shapes):
    """Every third image without a mask, every fourth without boxes, some objects difficult; counts its reads."""

    reads = 0
    breaks = False
    bad = ()

    def sample(self, index):
        type(self).reads += 1
        if self.breaks or index in self.bad:
            raise DataError(f"image '{index}': truncated")
        one = super().sample(index)
        one.difficult[:1] = index % 2 == 0
        if index % 3 == 0:
            one = replace(one, mask=None)
        else:
            one.mask[:20] = VOID
        return replace(one, boxes=None, labels=None, difficult=None, instances=None) if index % 4 == 0 else one

    def fingerprint(self):
        return f"partly {super().fingerprint()}"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("MTVISION_CACHE", str(folder))
    for name, value in (("reads", 0), ("breaks", False), ("bad", ())):
        monkeypatch.setattr(Partly, name, value)
    return folder


def by_hand(dataset):
    """Go through images, pixels and boxes one by one."""
    masks = [set() if one.mask is None else {int(value) for row in one.mask for value in row} for one in dataset]
    boxes = [
        set()
        if one.boxes is None
        else {int(label) for label, hard in zip(one.labels, one.difficult, strict=True) if not hard}
        for one in dataset
    ]
    return {
        "has_mask": [one.mask is not None for one in dataset],
        "has_boxes": [one.boxes is not None for one in dataset],
        "mask_classes": [[c in of for c in range(len(dataset.classes.segmentation))] for of in masks],
        "box_classes": [[c in of for c in range(len(dataset.classes.detection))] for of in boxes],
        "is_readable": [True] * len(dataset),
    }


def assert_equal(table, wanted):
    for name, flags in table._asdict().items():
        assert flags.dtype == bool
        np.testing.assert_array_equal(flags, wanted[name], err_msg=name)


def test_the_flags_are_those_of_a_loop():
    dataset = Partly("train", num_images=24, image_size=48, max_objects=2)
    table, wanted = annotation_table(dataset), by_hand(dataset)
    assert_equal(table, wanted)
    assert 0 < table.is_complete.sum() == sum(map(all, zip(wanted["has_mask"], wanted["has_boxes"], strict=True))) < 24
    labels = [set(one.labels.tolist()) for one in dataset if one.boxes is not None]
    assert table.box_classes.sum() < sum(map(len, labels))  # the difficult ones are no positives


def test_of_files(devkit):
    (devkit / "SegmentationClass" / "b.png").unlink()
    (devkit / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    dataset = VOC(devkit, "train")
    table = annotation_table(dataset)
    assert_equal(table, by_hand(dataset))
    assert table.has_mask.sum() < table.has_boxes.sum() == 3
    assert table.box_classes.any(axis=0).tolist() == [name == "cat" for name in dataset.classes.detection]


def test_real_images(real_pack):
    dataset = VOC(real_pack("coco_voc20"), "val")[:6]
    assert_equal(annotation_table(dataset, cache=False), by_hand(dataset))


def test_it_is_made_once_and_small(cache):
    dataset, told = Partly("train", num_images=50, image_size=32), []
    first = annotation_table(dataset, progress=lambda done, total: told.append((done, total)))
    assert Partly.reads == 50
    assert told == [(number, 50) for number in range(1, 51)]
    assert_equal(annotation_table(dataset), first._asdict())
    assert Partly.reads == 50
    assert_equal(annotation_table(dataset, cache=False), first._asdict())
    assert Partly.reads == 100
    (path,) = cache.iterdir()
    assert path.name.startswith("annotations-")
    assert path.name.endswith(f"-{fingerprint(dataset)}.json")
    num_bits = 50 * (6 + 5 + 3)
    assert sum(len(text) for text in json.loads(path.read_text()).values() if isinstance(text, str)) < num_bits / 6 + 20


def test_other_classes_have_another_table():
    dataset = Partly("train", num_images=6, image_size=32)
    annotation_table(dataset)
    dataset.classes = Classes(Shapes.classes.segmentation, Shapes.classes.detection[::-1])
    annotation_table(dataset)
    assert Partly.reads == 12


@pytest.mark.parametrize(
    "change",
    [
        lambda content: [],
        lambda content: {**content, "num_images": 7},
        lambda content: {**content, "has_mask": "AAA="},
        lambda content: {**content, "has_mask": "?"},
        lambda content: {name: value for name, value in content.items() if name != "box_classes"},
    ],
)
def test_a_damaged_file_is_made_anew(cache, change, caplog):
    dataset = Partly("train", num_images=6, image_size=32)
    right = annotation_table(dataset)
    (path,) = cache.iterdir()
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with caplog.at_level(logging.WARNING):
        assert_equal(annotation_table(dataset), right._asdict())
    assert "computed anew" in caplog.text
    assert Partly.reads == 12


def test_what_cannot_be_listed_is_one_sentence():
    samples = list(Partly("train", num_images=2, image_size=32))
    with pytest.raises(DataError, match="no attribute 'classes'"):
        annotation_table(samples)
    with pytest.raises(DataError, match="the data set is empty"):
        annotation_table(Shapes("train", num_images=2, image_size=32)[:0])

    class Wrong(list):
        classes = Classes(("background",), ("disc",))

    unknown = Wrong([replace(samples[1], mask=None, labels=samples[1].labels + 7)])
    with pytest.raises(DataError, match=r"item 0: image 'train-00001': label \d+ is outside 0 to 0"):
        annotation_table(unknown)


def test_a_bad_item_is_raised_or_skipped(monkeypatch, caplog):
    monkeypatch.setattr(Partly, "bad", (1, 5))
    dataset = Partly("train", num_images=7, image_size=48)
    with pytest.raises(DataError, match="image '1': truncated"):
        annotation_table(dataset)
    table = annotation_table(dataset, skip_bad=True)
    assert "2 of 7 items cannot be read; they count as not annotated:\nitem 1: image '1': truncated" in caplog.text
    assert np.flatnonzero(~table.is_readable).tolist() == [1, 5]
    assert not any(flags[[1, 5]].any() for flags in table)
    reads = Partly.reads
    assert_equal(annotation_table(dataset, skip_bad=True), table._asdict())
    assert Partly.reads == reads
    with pytest.raises(DataError, match="image '1': truncated"):  # what was kept has gaps
        annotation_table(dataset)
    monkeypatch.setattr(Partly, "bad", ())
    assert_equal(annotation_table(dataset), by_hand(dataset))


def test_a_skipped_item_has_no_half_of_a_row():
    class Own(list):
        classes = Shapes.classes

        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return replace(sample, labels=sample.labels + 50)

        def examine(self, index):
            return self[index], []

    table = annotation_table(Own([Shapes("train", num_images=3, image_size=64)[2]]), skip_bad=True)
    assert not any(flags.any() for flags in table)


def test_after_the_statistics_nothing_is_read_again(monkeypatch):
    dataset = Partly("train", num_images=12, image_size=48)
    wanted = (
        compute_statistics(dataset, cache=False),
        class_pixel_counts(dataset, 6, cache=False),
        annotation_table(dataset, cache=False),
    )
    stats(dataset)
    monkeypatch.setattr(Partly, "breaks", True)
    with pytest.raises(DataError, match="truncated"):
        dataset[0]
    assert compute_statistics(dataset) == wanted[0]
    for own, other in zip(class_pixel_counts(dataset, 6), wanted[1], strict=True):
        np.testing.assert_array_equal(own, other)
    assert_equal(annotation_table(dataset), wanted[2]._asdict())


def test_the_statistics_leave_nothing_unless_asked_and_no_table_of_other_classes(cache):
    dataset = Partly("train", num_images=3, image_size=32)
    stats(dataset, cache=False)
    stats(list(dataset), classes=dataset.classes)  # no fingerprint
    assert not cache.exists()
    other = Classes((*dataset.classes.segmentation, "more"), (*dataset.classes.detection, "more"))
    stats(dataset, classes=other)
    key = fingerprint(dataset)
    assert {path.name for path in cache.iterdir()} == {f"class-counts-7-{key}.json", f"statistics-{key}.json"}
