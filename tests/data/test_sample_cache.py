"""The cache of samples gives the very same batches, and survives writers that die or race."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtvision.config import Config
from mtvision.data import Shapes, build_loader
from mtvision.data.loading.sample_cache import CachedReader, _decoded, _encoded, cache_folder, open_cache, write_cache
from mtvision.errors import ConfigError, DataError
from mtvision.types import Sample

SIZE = (48, 64)
FIELDS = ("image", "mask", "boxes", "labels", "difficult", "instances")


def same(one: Sample, other: Sample) -> bool:
    parts = [(getattr(one, name), getattr(other, name)) for name in FIELDS]
    for kind in ("maps", "values"):
        first, second = getattr(one, kind), getattr(other, kind)
        assert set(first) == set(second)
        parts += [(first[name], second[name]) for name in first]
    assert (one.image_id, one.original_size) == (other.image_id, other.original_size)
    return all(
        a is b is None
        or (
            a is not None
            and b is not None
            and a.dtype == b.dtype
            and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        )
        for a, b in parts
    )


def config(root: Path, **data: object) -> Config:
    return Config(training={"batch_size": 4}, data={"image_size": SIZE, "cache": root, **data})


def batches(cfg: Config, data: object, epoch: int = 1) -> list[np.ndarray]:
    loader = build_loader(cfg, data, training=True)
    loader.set_epoch(epoch)
    return [np.concatenate([batch.images.numpy().ravel(), batch.targets["seg"].numpy().ravel()]) for batch in loader]


@settings(max_examples=60, deadline=None)
@given(
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from([None, "u1", "u2"]),
    st.text(max_size=8),
    st.integers(1, 9),
)
def test_a_record_gives_back_the_sample(
    mask: bool, boxes: bool, objects: int, instances: str | None, name: str, side: int
):
    rng = np.random.default_rng(side)
    size = (side, 5)
    sample = Sample(
        image=rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        mask=rng.integers(0, 256, size, dtype=np.uint8) if mask else None,
        boxes=rng.random((objects, 4)).astype(np.float32) if boxes else None,
        labels=np.arange(objects) if boxes else None,
        difficult=np.zeros(objects, bool) if boxes else None,
        image_id=name.replace("\n", ""),
        original_size=(side * 3, 17),
        maps={"depth": rng.random(size).astype(np.float32), "normals": None},
        values={"scene": np.array(3), "nothing": None, "float": np.array([np.nan, 1.0])},
        instances=None if instances is None else rng.integers(0, 3, size).astype(instances),
    )
    assert same(_decoded(_encoded(sample)), sample)


@pytest.mark.parametrize("level", ["none", "basic", "heavy", "robust"])
@pytest.mark.parametrize("further", [{}, {"mixes": ["mosaic", "copy_paste"], "multi_scale": [0.5, 1.5]}])
def test_batches_are_the_same_with_and_without_the_cache(level: str, further: dict, tmp_path: Path):
    data = Shapes("train", num_images=12, image_size=(80, 100))
    plain = batches(config(tmp_path, augmentation_level=level, **further).replace({"data.cache": False}), data)
    fresh = batches(config(tmp_path, augmentation_level=level, **further), data)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    state = (folder / "samples.bin").stat().st_mtime_ns
    cached = batches(config(tmp_path, augmentation_level=level, **further), data)
    assert (folder / "samples.bin").stat().st_mtime_ns == state
    for one, two, three in zip(plain, fresh, cached, strict=True):
        assert np.array_equal(one, two)
        assert np.array_equal(one, three)


class Broken(Shapes):
    """Shapes whose files are gone: nothing but a cache can have their samples."""

    def sample(self, index: int) -> Sample:
        raise DataError(f"item {index} was read")

    def examine(self, index: int) -> tuple[Sample, list[str]]:
        return self.sample(index), []

    def fingerprint(self) -> str:
        return Shapes(self.split, num_images=len(self), image_size=self.image_size).fingerprint()


def test_a_finished_cache_is_read_and_no_file_is_touched(tmp_path: Path):
    data = Shapes("train", num_images=8, image_size=(80, 100))
    cfg = config(tmp_path, num_workers=2)
    expected = batches(cfg, data)
    Broken.__name__ = "Shapes"  # the type is part of the fingerprint
    again = batches(cfg, Broken("train", num_images=8, image_size=(80, 100)))
    assert all(np.array_equal(one, other) for one, other in zip(expected, again, strict=True))


def test_another_size_or_other_files_have_another_cache(tmp_path: Path):
    data = Shapes("train", num_images=4, image_size=64)
    folders = {
        cache_folder(data, SIZE, tmp_path),
        cache_folder(data, (64, 64), tmp_path),
        cache_folder(Shapes("val", num_images=4, image_size=64), SIZE, tmp_path),
        cache_folder(data[1:], SIZE, tmp_path),
        cache_folder(data, SIZE, tmp_path, with_instances=False),
    }
    assert len(folders) == 5
    with pytest.raises(DataError, match=r"data\.cache: list has no method 'fingerprint' of its own"):
        build_loader(config(tmp_path), list(data), training=True)


def test_what_looks_at_stored_images_cannot_be_cached(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"data\.cache: 'large_scale_jitter' looks at images as they are stored"):
        build_loader(
            config(tmp_path, augmentation_level="large_scale_jitter"), Shapes("train", num_images=4), training=True
        )


def _slow_samples(data: Shapes, seconds: float):
    for index in range(len(data)):
        time.sleep(seconds)
        yield data[index]


def _write_slowly(root: Path, seconds: float, results) -> None:
    data = Shapes("train", num_images=6, image_size=SIZE)
    reader = write_cache(cache_folder(data, SIZE, root), _slow_samples(data, seconds))
    results.put([reader(index).image.sum() for index in range(6)])


def test_two_writers_at_once_leave_one_whole_cache(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    writers = [context.Process(target=_write_slowly, args=(tmp_path, 0.02, results)) for _ in range(2)]
    for writer in writers:
        writer.start()
    sums = [results.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join()
    assert sums[0] == sums[1] == [sample.image.sum() for sample in Shapes("train", num_images=6, image_size=SIZE)]
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_a_writer_that_is_killed_leaves_nothing_that_is_read(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    data = Shapes("train", num_images=6, image_size=SIZE)
    writer = context.Process(target=_write_slowly, args=(tmp_path, 1.0, context.Queue()))
    writer.start()
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("*.part*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert list(tmp_path.glob("*.part*"))
    assert open_cache(cache_folder(data, SIZE, tmp_path), 6) is None
    reader = write_cache(cache_folder(data, SIZE, tmp_path), data)
    assert all(same(reader(index), data[index]) for index in range(6))
    assert not list(tmp_path.glob("*.part*"))  # what was left is cleared away


def test_an_error_while_writing_leaves_nothing(tmp_path: Path):
    class Bad(Shapes):
        def sample(self, index: int) -> Sample:
            if index == 3:
                raise DataError("picture 3 is torn")
            return super().sample(index)

        def fingerprint(self) -> str:
            return "bad"

    data = Bad("train", num_images=6, image_size=64)
    with pytest.raises(DataError, match="picture 3 is torn"):
        build_loader(config(tmp_path), data, training=True)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    loader = build_loader(config(tmp_path, on_error="skip"), data, training=True)
    skipped = {text for batch in loader for text in batch.skipped}
    assert skipped == {"picture 3 is torn"}  # also from the cache
    assert {text for batch in loader for text in batch.skipped} == {"picture 3 is torn"}


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"samples cannot be cached \(No space left on device"):
        build_loader(config(tmp_path), Shapes("train", num_images=4), training=True)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_what_is_read_can_be_changed_without_changing_the_cache(tmp_path: Path):
    data = Shapes("train", num_images=2, image_size=SIZE)
    reader = CachedReader(write_cache(cache_folder(data, SIZE, tmp_path), data).folder)
    sample = reader(0)
    sample.image[:] = 0
    assert same(reader(0), data[0])
    assert same(replace(reader(1)), data[1])


def test_a_subclass_that_inherits_its_fingerprint_has_none(tmp_path: Path):
    class Depth(Shapes):
        def sample(self, index: int) -> Sample:
            return replace(super().sample(index), maps={"depth": np.ones(self.image_size, np.float32)})

    for data in (Depth("train", num_images=4), Depth("train", num_images=4)[1:]):
        with pytest.raises(DataError, match="no method 'fingerprint' of its own"):
            build_loader(config(tmp_path), data, training=True)


@pytest.mark.parametrize("damage", ["cut", "no index", "no samples", "bad index"])
def test_a_damaged_cache_says_so(tmp_path: Path, damage: str):
    data = Shapes("train", num_images=4, image_size=SIZE)
    folder = cache_folder(data, SIZE, tmp_path, with_instances=False)
    write_cache(folder, data)
    if damage == "cut":
        os.truncate(folder / "samples.bin", 1000)
    elif damage == "bad index":
        (folder / "ends.npy").write_bytes(b"junk")
    else:
        (folder / {"no index": "ends.npy", "no samples": "samples.bin"}[damage]).unlink()
    with pytest.raises(DataError, match="the cache is damaged; delete the folder"):
        build_loader(config(tmp_path), data, training=True)


def test_an_error_of_reading_is_not_blamed_on_the_cache(tmp_path: Path):
    class Unreadable:
        classes = Shapes.classes

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Sample:
            raise OSError("cannot identify image file 'b.jpg'")

        def fingerprint(self) -> str:
            return "unreadable"

    with pytest.raises(DataError, match=r"^item 0: it cannot be read \(cannot identify image file 'b.jpg'\)$"):
        build_loader(config(tmp_path), Unreadable(), training=True)
    odd = replace(Shapes("train", num_images=1)[0], values={"name": np.array(["a"])})
    with pytest.raises(DataError, match=r"data\.cache: image 'train-00000': 'values/name' is of <U1"):
        _encoded(odd)
