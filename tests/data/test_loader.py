import importlib
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from devkit_folder import write_lists
from mtvision.config import Config
from mtvision.data import (
    VOC,
    KeyedSampler,
    SampleDataset,
    SampleKey,
    Shapes,
    TransformedDataset,
    build_dataset,
    build_loader,
    collate,
)
from mtvision.data.loading.loader import _drops_last
from mtvision.data.loading.sampler import PairedDataset, sample_seed
from mtvision.data.reading import Item
from mtvision.errors import DataError
from mtvision.registries import AUGMENTATIONS, DATASETS
from mtvision.types import Sample, _map_tensors


def make_config(
    batch_size: int = 4, num_workers: int = 0, level: str = "robust", seed: int = 5, **data: object
) -> Config:
    dataset = {"name": "shapes", "num_images": 10, "image_size": 48}
    values = {"dataset": dataset, "image_size": 64, "num_workers": num_workers, "augmentation_level": level, **data}
    return Config(system={"seed": seed, "device": "cpu"}, training={"batch_size": batch_size}, data=values)


class Mixed:
    """A user's data set: only ``__len__`` and ``__getitem__``; boxes and mask, mask only, boxes only, nothing."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        sample = Shapes("train", num_images=4, image_size=(40, 56))[3]
        if index in (1, 3):
            sample = replace(sample, boxes=None, labels=None, difficult=None)
        if index in (2, 3):
            sample = replace(sample, mask=None)
        return replace(sample, image_id=str(index))


def epochs(config: Config, count: int = 2) -> list[dict[str, torch.Tensor]]:
    """Return the images by id of each epoch."""
    loader = build_loader(config, build_dataset(config), training=True)
    result = []
    for epoch in range(count):
        loader.set_epoch(epoch)
        result.append(
            {name: image for batch in loader for name, image in zip(batch.image_ids, batch.images, strict=True)}
        )
    return result


def test_workers_change_nothing_and_epochs_change_everything():
    alone, two = epochs(make_config(batch_size=5)), epochs(make_config(batch_size=5, num_workers=2))
    for here, there in zip(alone, two, strict=True):
        assert list(here) == list(there)
        assert all(torch.equal(here[name], there[name]) for name in here)
    first, second = alone
    assert list(first) != list(second)
    assert sorted(first) == sorted(second)
    assert not any(torch.equal(first[name], second[name]) for name in first)


def test_no_two_samples_share_a_stream():
    """The same picture under ten indices gives ten different results, and so do ten seeds of the run."""
    same = [Shapes("train", num_images=1, image_size=48)[0]] * 10
    transform = AUGMENTATIONS.build("heavy", (64, 64))
    images = [sample.image.tobytes() for sample in map(TransformedDataset(same, transform, 0).__getitem__, range(10))]
    images += [TransformedDataset(same, transform, seed)[0].image.tobytes() for seed in range(1, 11)]
    assert len(set(images)) == 20
    seeds = {sample_seed(seed, epoch, index) for seed in range(5) for epoch in range(20) for index in range(100)}
    assert len(seeds) == 10_000
    assert max(seeds) > 2**60


def test_a_key_is_all_that_matters():
    dataset = TransformedDataset(Shapes("train", num_images=4), AUGMENTATIONS.build("robust", (64, 64)), seed=1)
    late = dataset[SampleKey(3, 2)].image
    assert np.array_equal(late, dataset[SampleKey(3, 2)].image)
    assert not np.array_equal(late, dataset[2].image)
    assert np.array_equal(dataset[2].image, dataset[SampleKey(0, 2)].image)


def test_the_sampler_is_a_permutation_keyed_by_seed_and_epoch():
    sampler = KeyedSampler(50, seed=1)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {key.epoch for key in keys} == {epoch}
        assert sorted(key.index for key in keys) == list(range(50))
        orders.append(keys)
    assert orders[0] == orders[2]
    assert [key.index for key in orders[0]] != [key.index for key in orders[1]]
    assert orders[0] != list(KeyedSampler(50, seed=2))
    assert [key.index for key in KeyedSampler(5, seed=0, shuffle=False)] == [0, 1, 2, 3, 4]
    assert len(sampler) == 50


def test_evaluation_keeps_order_and_all_images_and_holds_the_truth_at_the_original_size():
    config = make_config(batch_size=4)
    dataset = build_dataset(config)
    batches = list(build_loader(config, dataset, training=False))
    assert [len(batch.image_ids) for batch in batches] == [4, 4, 2]
    assert [name for batch in batches for name in batch.image_ids] == dataset.image_ids
    truths = [truth for batch in batches for truth in batch.truths["det"]]
    masks = [mask for batch in batches for mask in batch.truths["seg"]]
    for sample, truth, mask in zip(dataset, truths, masks, strict=True):
        assert np.array_equal(truth["boxes"], sample.boxes)
        assert np.array_equal(truth["labels"], sample.labels)
        assert np.array_equal(mask, sample.mask)
        assert mask.dtype == torch.int64
    target = batches[0].targets["det"][1]
    assert torch.allclose(target["boxes"], truths[1]["boxes"] * 64 / 48)
    assert batches[0].image_sizes == [(48, 48)] * 4
    again = build_loader(config, dataset, training=False)
    assert torch.equal(next(iter(again)).images, batches[0].images)


@pytest.mark.parametrize("training", [True, False])
def test_what_is_not_annotated_stays_unknown(training: bool):
    config = make_config(level="heavy", image_size=[32, 64])
    (batch,) = build_loader(config, Mixed(), training=training)
    assert batch.images.shape == (4, 3, 32, 64)
    assert batch.images.dtype == torch.uint8
    assert batch.targets["seg"].shape == (4, 32, 64)
    assert batch.targets["seg"].dtype == torch.int64
    for name, mask, boxes in zip(batch.image_ids, batch.targets["seg"], batch.targets["det"], strict=True):
        assert (boxes is None) == (name in "13")
        assert bool((mask == 255).all()) == (name in "23")
    if training:
        assert batch.truths == {}
    else:
        assert [truth is None for truth in batch.truths["det"]] == [False, True, False, True]
        assert [truth is None for truth in batch.truths["seg"]] == [False, False, True, True]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": np.zeros((8, 8, 3), np.int64)}, "image 'odd': expected an image of uint8, got int64"),
        ({"mask": np.zeros((8, 8), np.float32)}, "image 'odd': expected a mask of integers, got float32"),
    ],
)
def test_collate_names_an_image_of_another_type(changes, sentence):
    sample = replace(Mixed()[0], image_id="odd", **changes)
    with pytest.raises(DataError, match=sentence):
        collate([sample])


def test_a_batch_is_in_the_hosts_memory_whatever_torchs_default_device_is():
    with torch.device("meta"):
        batch = collate([Mixed()[0]])
    assert batch.images.device == batch.targets["seg"].device == torch.device("cpu")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_masks_are_bytes_on_their_way_to_cuda_and_int64_behind_it(training, num_workers, monkeypatch):
    config = make_config(num_workers=num_workers, image_size=[32, 64])
    expected = list(build_loader(config, Mixed(), training=training))
    monkeypatch.setattr("mtvision.data.loading.loader.loads_for_cuda", lambda config: True)
    batches = list(build_loader(config, Mixed(), training=training))
    assert [batch.targets["seg"].dtype for batch in batches] == [torch.uint8]
    for batch, other in zip(batches, expected, strict=True):
        moved = batch.to(torch.device("cpu"))
        assert moved.targets["seg"].dtype == other.targets["seg"].dtype == torch.int64
        assert torch.equal(moved.targets["seg"], other.targets["seg"])
        assert torch.equal(moved.images, other.images)


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_masks_that_a_transform_made_int64_stay_so(monkeypatch):
    """A byte cannot hold what they may hold."""
    monkeypatch.setattr("mtvision.data.loading.loader.loads_for_cuda", lambda config: True)
    sample = replace(Mixed()[0], mask=np.full((40, 56), 300, np.int64))
    loader = build_loader(make_config(), Mixed(), training=False)
    batch = loader.collate_fn([Item(sample, None, ())])
    assert batch.targets["seg"].dtype == torch.int64
    assert batch.targets["seg"].unique().tolist() == [300]


def test_collate_keeps_types_of_images_without_objects():
    empty = replace(
        Mixed()[0], boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64), difficult=np.zeros(0, np.bool_)
    )
    target = collate([empty]).targets["det"][0]
    assert target["boxes"].shape == (0, 4)
    assert (target["boxes"].dtype, target["labels"].dtype, target["difficult"].dtype) == (
        torch.float32,
        torch.int64,
        torch.bool,
    )


@pytest.mark.parametrize(
    ("samples", "batch", "drops"),
    [
        (10, 4, True),
        (8, 4, False),
        (5, 4, True),
        (6, 4, False),
        (3, 4, False),
        (1, 4, False),
        (4, 4, False),
        (9, 4, True),
    ],
)
def test_which_last_batch_is_left_out(samples: int, batch: int, drops: bool):
    config = make_config(batch_size=batch, level="none")
    sizes = [len(b.image_ids) for b in build_loader(config, [Mixed()[0]] * samples, training=True)]
    assert _drops_last(samples, batch) == drops or samples % batch == 0
    assert sum(sizes) == (samples // batch * batch if drops else samples)
    assert 1 not in sizes or samples == 1


class Own:
    """A user's data set of one item that is given back as it is."""

    classes = Shapes.classes

    def __init__(self, item: object) -> None:
        self.items = [Shapes("train", num_images=1, image_size=40)[0], item]

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        return self.items[index]


def spoil(**changes: object) -> Sample:
    return replace(Mixed()[0], image_id="mine", **changes)


SPOILT = {
    "item 1: image 'mine': the mask is 20 x 28 pixels": lambda: spoil(mask=np.zeros((20, 28), np.uint8)),
    "item 1: image 'mine': the mask has the class id 6; valid are 0 to 5": lambda: spoil(
        mask=np.full((40, 56), 6, np.uint8)
    ),
    "item 1: image 'mine': label 5 is outside 0 to 4": lambda: spoil(labels=np.full(len(Mixed()[0].labels), 5)),
    "item 1: image 'mine': expected uint8 (H, W, 3), got uint8 (40, 56)": lambda: spoil(
        image=np.zeros((40, 56), np.uint8)
    ),
    "item 1: expected an mtvision.Sample, got tuple": lambda: (np.zeros((40, 56, 3), np.uint8), None),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sentence", SPOILT)
def test_a_users_own_item_is_checked_as_it_is_read(sentence: str, training: bool):
    loader = build_loader(make_config(level="none"), Own(SPOILT[sentence]()), training=training)
    with pytest.raises(DataError, match=re.escape(sentence)):
        list(loader)


def test_a_users_own_item_is_named_through_workers_and_subsets():
    class Based(SampleDataset):
        classes = Shapes.classes

        def __len__(self) -> int:
            return 3

        def sample(self, index: int) -> Sample:
            return replace(Mixed()[0], image_id=f"image{index}", mask=np.full((40, 56), 6 * (index == 2), np.uint8))

    loader = build_loader(make_config(batch_size=1, num_workers=1), Based()[1:], training=True)
    with pytest.raises(DataError, match=r"^item 1: image 'image2': the mask has the class id 6") as caught:
        list(loader)
    assert "Traceback" not in str(caught.value)


def test_without_classes_the_ids_are_not_compared():
    item = replace(Mixed()[0], mask=np.full((40, 56), 99, np.uint8))
    assert TransformedDataset([item], lambda sample, seed: sample, 0)[0] is item
    assert PairedDataset([item], lambda sample, seed: sample)[0][1] is item


def test_a_data_set_that_checks_itself_is_not_checked_again(devkit: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object) -> list[str]:
        raise AssertionError("checked again")

    monkeypatch.setattr(importlib.import_module("mtvision.data.checking.check"), "sample_problems", refuse)
    for dataset in (VOC(devkit, "train"), VOC(devkit, "train")[1:], Shapes("train", num_images=2)):
        assert len(list(build_loader(make_config(), dataset, training=False))) == 1
    with pytest.raises(AssertionError, match="checked again"):
        list(build_loader(make_config(), Mixed(), training=False))


def test_classes_of_a_registered_set_must_be_classes():
    @DATASETS.register("classless")
    def classless(root: str | Path, split: str) -> Own:
        """One without."""
        dataset = Own(None)
        dataset.classes = ["disc"]
        return dataset

    with pytest.raises(DataError, match=r"data set 'classless': classes: expected an mtvision\.Classes, got list"):
        build_dataset(make_config(dataset="classless"))


def test_an_empty_data_set_is_refused():
    with pytest.raises(DataError, match="the data set is empty"):
        build_loader(make_config(), [], training=True)


def test_bad_files_reach_the_user_by_name_through_workers(devkit: Path):
    write_lists(devkit, Main_train="a b c gone", Segmentation_train="a b c gone")
    config = make_config(num_workers=2, dataset="voc", dataset_root=str(devkit))
    loader = build_loader(config, build_dataset(config), training=True)
    with pytest.raises(DataError, match=r"gone\.jpg: the image is missing"):
        list(loader)


def test_the_same_call_takes_a_mapping():
    mapping = {
        "data": {"dataset": {"name": "shapes", "num_images": 8}, "image_size": 32},
        "training": {"batch_size": 2},
    }
    assert len(build_dataset(mapping, split="val")) == 2
    batch = next(iter(build_loader(mapping, build_dataset(mapping, "val"), training=False)))
    assert batch.images.shape == (2, 3, 32, 32)


def test_pinning_and_moving_keep_the_batch_whole():
    batch = collate([Mixed()[0], Mixed()[1]]).to(torch.device("cpu"))
    assert batch.targets["det"][1] is None
    assert batch.image_ids == ["0", "1"]


def test_a_batch_travels_with_few_tensors_and_arrives_as_it_was():
    """Each tensor from a worker has a block of shared memory of its own: boxes of many images must not."""
    data = Shapes("train", num_images=8, image_size=64)
    batch = next(iter(build_loader(make_config(image_size=[64, 64]), data, training=False)))
    tensors = []

    def count(tensor):
        tensors.append(tensor)
        return tensor

    _map_tensors(batch.__getstate__(), count)
    assert all(tensor.nbytes > 16384 for tensor in tensors)
    again = pickle.loads(pickle.dumps(batch))
    pairs: list[tuple] = []
    for field in ("images", "targets", "truths"):
        before, after = [], []
        _map_tensors(getattr(batch, field), lambda tensor, into=before: into.append(tensor))
        _map_tensors(getattr(again, field), lambda tensor, into=after: into.append(tensor))
        pairs += zip(before, after, strict=True)
    assert len(pairs) > 20
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
    assert (again.image_ids, again.image_sizes, again.skipped) == (batch.image_ids, batch.image_sizes, batch.skipped)
    again.targets["det"][0]["boxes"] += 1  # is its own and can be written


def test_a_worker_puts_batches_into_shared_memory_at_once():
    """What is in shared memory already is not copied on its way to the main process."""
    config = Config(
        training={"batch_size": 4},
        data={"dataset": {"name": "shapes", "num_images": 8, "image_size": 32}, "image_size": 32, "num_workers": 1},
    )
    loader = build_loader(config, build_dataset(config, "train"), training=True)
    collate_plain, seen = loader.collate_fn, []

    def noted(items):
        batch = collate_plain(items)
        batch.image_ids = [f"{batch.images.is_shared()} {batch.targets['seg'].is_shared()}"]
        return batch

    loader.collate_fn = noted
    for batch in loader:
        seen += batch.image_ids
    assert seen == ["True True"] * 2
    assert not collate_plain([]).images.is_shared()
