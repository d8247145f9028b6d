"""JPEGs decoded at less than full size, and what an item that cannot be read does to a run."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mtvision.data import VOC, Shapes, build_loader, compute_statistics
from mtvision.data.base import reads_resized
from mtvision.data.geometry import resize
from mtvision.data.loading.training_reader import ResizedReader
from mtvision.data.readers.files import read_picture
from mtvision.data.reading import SubstitutingReader, readable
from mtvision.errors import DataError
from mtvision.types import Sample


def smooth_picture(size: tuple[int, int]) -> np.ndarray:
    """A picture without fine detail, so that ways to shrink it agree."""
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)


def save(path: Path, size: tuple[int, int], orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(smooth_picture(size)).save(path, quality=95, exif=exif)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("least", "factor"), [((120, 160), 1), ((60, 80), 2), ((31, 41), 2), ((30, 40), 4), ((8, 8), 8)]
)
def test_a_jpeg_is_decoded_as_small_as_will_do(least: tuple[int, int], factor: int, orientation: int, tmp_path: Path):
    path = save(tmp_path / "a.jpg", (120, 160), orientation)
    turned = orientation >= 5
    wanted = least[::-1] if turned else least
    whole, _ = read_picture(path)
    small, problems = read_picture(path, wanted)
    assert problems == []
    assert whole.size == small.size == ((160, 120) if turned else (120, 160))
    assert small.image.shape[:2] == tuple(side // factor for side in whole.size)
    expected = np.asarray(Image.fromarray(whole.image).resize(small.image.shape[1::-1], Image.Resampling.BOX))
    assert np.abs(small.image.astype(int) - expected).mean() < 1.5


def test_the_size_of_a_thumbnail_is_not_the_images(tmp_path: Path):
    whole = save(tmp_path / "a.jpg", (120, 160)).read_bytes()
    thumbnail = save(tmp_path / "thumbnail.jpg", (12, 16)).read_bytes()
    segment = b"\xff\xe0" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    for data in (whole[:2] + segment + whole[2:], whole[:2] + b"\xff\xff" + whole[3:], whole):
        (tmp_path / "a.jpg").write_bytes(data)
        small, problems = read_picture(tmp_path / "a.jpg", (60, 80))
        assert (small.size, small.image.shape, problems) == ((120, 160), (60, 80, 3), [])


@settings(max_examples=40, deadline=None)
@given(st.integers(17, 90), st.integers(17, 90), st.integers(1, 40), st.integers(1, 40))
def test_odd_sizes_are_known_exactly_and_never_decoded_too_small(height: int, width: int, low: int, across: int):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = save(Path(folder) / "a.jpg", (height, width))
        small, _ = read_picture(path, (low, across))
    assert small.size == (height, width)
    assert small.image.shape[0] >= min(low, height)
    assert small.image.shape[1] >= min(across, width)


@pytest.mark.parametrize(("stored", "target"), [(1001, 125), (2001, 250), (375, 160), (1007, 250), (640, 320)])
def test_a_reduced_image_lies_where_the_whole_one_does(stored: int, target: int, tmp_path: Path):
    """A decoder makes 126 pixels of 1001 by 8; what the last one has of the image is but an eighth."""
    edge = stored * 19 // 20
    picture = np.zeros((64, stored, 3), np.uint8)
    picture[:, edge:] = 255
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=98)
    small, _ = read_picture(tmp_path / "a.jpg", (8, target))
    assert small.image.shape[1] < stored
    sample = Sample(small.image, None, None, None, None, "a", small.size)
    values = resize(sample, (8, target), annotated=small.size).image[4, :, 0].astype(float) / 255
    assert values.size - values.sum() == pytest.approx(edge * target / stored, abs=0.06)


def test_an_orientation_that_only_xmp_tells_is_not_applied(tmp_path: Path):
    """OpenCV reads EXIF alone; a header that is read otherwise would swap height and width of the boxes."""
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    packet += (
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    Image.fromarray(smooth_picture((120, 160))).save(tmp_path / "a.jpg", xmp=packet)
    whole, _ = read_picture(tmp_path / "a.jpg")
    small, _ = read_picture(tmp_path / "a.jpg", (30, 30))
    assert small.size == whole.size == (120, 160)
    assert small.image.shape[:2] == (30, 40)


def test_only_jpegs_are_reduced_and_a_file_without_header_is_a_problem(tmp_path: Path):
    Image.fromarray(smooth_picture((120, 160))).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", (8, 8))[0].image.shape[:2] == (120, 160)
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xda junk \xff\xd9")
    picture, problems = read_picture(tmp_path / "b.jpg", (8, 8))
    assert picture is None
    assert "b.jpg: not an image" in problems[0]


def devkit(folder: Path, size: tuple[int, int] = (240, 320)) -> VOC:
    """One image with a mask, an instance and a box."""
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    save(folder / "JPEGImages/a.jpg", size)
    mask = np.zeros(size, np.uint8)
    mask[40:120, 60:200] = 8
    Image.fromarray(mask).save(folder / "SegmentationClass/a.png")
    Image.fromarray((mask > 0).astype(np.uint8)).save(folder / "SegmentationObject/a.png")
    box = "<xmin>61</xmin><ymin>41</ymin><xmax>200</xmax><ymax>120</ymax>"
    text = f"<annotation><object><name>cat</name><bndbox>{box}</bndbox></object></annotation>"
    (folder / "Annotations/a.xml").write_text(text)
    (folder / "ImageSets/Main/train.txt").write_text("a\n")
    return VOC(folder, "train")


def test_a_sample_read_small_is_the_resized_one_but_for_the_decoder(tmp_path: Path):
    data = devkit(tmp_path)
    assert reads_resized(data)
    small, expected = data.sample_at(0, (48, 64)), resize(data[0], (48, 64))
    for name in ("mask", "boxes", "labels", "difficult", "instances"):
        assert np.array_equal(getattr(small, name), getattr(expected, name)), name
    assert (small.image_id, small.original_size) == ("a", (240, 320))
    assert small.image.shape == (48, 64, 3)
    assert np.abs(small.image.astype(int) - expected.image).mean() < 2
    assert np.array_equal(data[:1].sample_at(0, (48, 64)).image, small.image)
    # larger than half: decoded whole, so nothing differs
    assert np.array_equal(data.sample_at(0, (200, 300)).image, resize(data[0], (200, 300)).image)


def test_a_subclass_that_reads_otherwise_is_asked_as_it_is(tmp_path: Path):
    class Darker(VOC):
        def sample(self, index: int) -> Sample:
            sample = super().sample(index)
            return replace(sample, image=sample.image // 2)

    devkit(tmp_path)
    data = Darker(tmp_path, "train")
    assert not reads_resized(data)
    read = ResizedReader(data, (48, 64))
    assert np.array_equal(read(0).image, resize(data[0], (48, 64)).image)


class Partly(Shapes):
    """Shapes of which some cannot be read."""

    bad = (2, 3, 7)

    def sample(self, index: int) -> Sample:
        if index in self.bad:
            raise DataError(f"pictures/{index}.jpg: the image is truncated: its end is missing")
        return super().sample(index)

    def examine(self, index: int) -> tuple[Sample, list[str]]:
        return self.sample(index), []


def config(**values: object) -> dict:
    return {"training": {"batch_size": 4}, "data": {"image_size": 32, "on_error": "skip", **values}}


def test_in_training_the_next_image_stands_in_and_the_bad_one_is_named():
    data = Partly("train", num_images=8, image_size=32)
    loader = build_loader(config(), data, training=True)
    batches = list(loader)
    assert [len(batch.images) for batch in batches] == [4, 4]
    ids = sorted(name for batch in batches for name in batch.image_ids)
    expected = [0, 0, 1, 4, 4, 4, 5, 6]  # 2 and 3 become 4, 7 becomes 0
    assert ids == [f"train-{index:05d}" for index in expected]
    named = {text for batch in batches for text in batch.skipped}
    assert named == {f"pictures/{index}.jpg: the image is truncated: its end is missing" for index in (2, 3, 7)}
    again = list(build_loader(config(num_workers=2), data, training=True))
    assert [batch.image_ids for batch in again] == [batch.image_ids for batch in batches]
    assert [sorted(batch.skipped) for batch in again] == [sorted(batch.skipped) for batch in batches]


def test_in_evaluation_nothing_stands_in():
    data = Partly("train", num_images=8, image_size=32)
    data.bad = (0, 1, 2, 3, 6)
    batches = list(build_loader(config(), data, training=False))
    assert [batch.image_ids for batch in batches] == [[], ["train-00004", "train-00005", "train-00007"]]
    assert [len(batch.skipped) for batch in batches] == [4, 1]
    assert [len(batch.truths.get("seg", [])) for batch in batches] == [0, 3]


def test_by_default_a_bad_image_is_an_error():
    data = Partly("train", num_images=8, image_size=32)
    for training in (True, False):
        with pytest.raises(DataError, match="truncated"):
            list(build_loader(config(on_error="raise"), data, training=training))


def test_a_hundred_bad_items_in_a_row_end_it():
    def read(index: int) -> Sample:
        raise DataError(f"item {index} is bad")

    with pytest.raises(DataError, match="100 items in a row cannot be read; the last: item 49 is bad"):
        SubstitutingReader(read, 1000)(950)
    with pytest.raises(DataError, match="5 items in a row"):
        SubstitutingReader(read, 5)(0)


def test_passes_over_the_data_leave_bad_items_out_where_that_is_wanted():
    data = Partly("train", num_images=8, image_size=32)
    assert [sample.image_id for sample in readable(data, skip_bad=True)] == [
        f"train-{index:05d}" for index in (0, 1, 4, 5, 6)
    ]
    with pytest.raises(DataError, match="truncated"):
        list(readable(data))
    good = [Shapes("train", num_images=8, image_size=32)[index] for index in (0, 1, 4, 5, 6)]
    assert compute_statistics(data, cache=False, skip_bad=True) == compute_statistics(good, cache=False)
    data.bad = tuple(range(8))
    with pytest.raises(DataError, match="not one of the 8 items can be read"):
        list(readable(data, skip_bad=True))


def test_a_file_of_a_users_own_that_pillow_cannot_read_is_skipped_too():
    class Own:
        classes = Shapes.classes

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> Sample:
            if index == 2:
                raise Image.UnidentifiedImageError("cannot identify image file 'b.jpg'")
            return Shapes("train", num_images=6, image_size=32)[index]

    batches = list(build_loader(config(), Own(), training=True))
    assert {text for batch in batches for text in batch.skipped} == {
        "item 2: it cannot be read (cannot identify image file 'b.jpg')"
    }
