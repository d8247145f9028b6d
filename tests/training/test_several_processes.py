"""Two processes on the CPU are one: the same losses and weights, exactly the same metrics, one that writes."""

import json
import math

import pytest
import torch
from several_processes import CONFIG, PROTOCOLS, launch, rows, run, torchrun

import mtvision as mtv
from mtvision.data.loading.sampler import BlockBatchSampler, KeyedBatchSampler, KeyedSampler
from mtvision.errors import DataError

pytestmark = pytest.mark.usefixtures("without_curves")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    run(folder, {})
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "two"
    launch(folder)
    return folder


def test_the_losses_and_the_weights_are_those_of_one_process(one, two):
    weights = [
        torch.load(path, weights_only=True) for path in (one / "weights-0.pt", *sorted(two.glob("weights-*.pt")))
    ]
    assert len(weights) == 3
    start = mtv.build_model(mtv.Config(**CONFIG), classes=mtv.load_model(one).classes).state_dict()
    assert max((weights[0][name] - start[name]).abs().max() for name in start if start[name].is_floating_point()) > 1e-2
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(weights[1][name], weights[2][name]), name
    for here, there in zip(rows(one), rows(two), strict=True):
        assert list(here) == list(there)
        for key in here:
            if key.startswith("train/") or "loss" in key:
                assert there[key] == pytest.approx(here[key], rel=1e-5), key


def test_the_metrics_are_exactly_those_of_one_process(one, two, tmp_path):
    """The same weights scored by one process and by two: 7 images are one batch, so that the second has none."""
    weights = torch.load(two / "weights-0.pt", weights_only=True)
    cfg = mtv.Config(**CONFIG)
    from several_processes import PartlyAnnotated

    data = PartlyAnnotated("val")
    assert len(data) == 7
    model = mtv.build_model(cfg, classes=data.classes)
    model.load_state_dict(weights)
    alone = mtv.Trainer(model, cfg, progress=False).evaluate(data, protocol=PROTOCOLS)
    for rank in (0, 1):
        shared = json.loads((two / f"evaluated-{rank}.json").read_text())
        assert shared == alone
    assert not any(math.isnan(value) for value in alone.values())
    assert {"seg/boundary/miou", "det/voc/ap50", "seg/miou"} < set(alone)


def test_only_the_main_process_writes(two):
    assert sorted(path.name for path in (two / "checkpoints").iterdir()) == ["best", "last", "last.previous"]
    assert [row["epoch"] for row in rows(two)] == [1, 2]


@pytest.mark.first
@pytest.mark.slow
def test_a_process_that_dies_takes_the_run_down_and_the_run_goes_on(tmp_path):
    """2 steps an epoch; the second process dies inside the second epoch, in which the losses are counted already."""
    values = ("training.accumulate=1",)
    stderr = torchrun(tmp_path / "cut", "die=3", *values, expected=1)
    assert "another process of this training has died, and with it the run" in stderr
    assert f"the same command goes on from the last checkpoint in {tmp_path / 'cut'}" in stderr
    assert len(rows(tmp_path / "cut")) == 1
    launch(tmp_path / "cut", *values)
    launch(tmp_path / "whole", *values)
    a, b = (torch.load(tmp_path / name / "weights-0.pt", weights_only=True) for name in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    histories = [rows(tmp_path / name) for name in ("whole", "cut")]
    for row in (*histories[0], *histories[1]):
        assert row.pop("seconds") > 0
    assert histories[0] == histories[1]


def test_the_parts_of_a_batch_are_the_batch():
    for number in (1, 2, 3, 5):
        parts = []
        for rank in range(number):
            batches = KeyedBatchSampler(KeyedSampler(23, seed=1), batch_size=6)
            batches.set_epoch(2, start=1)
            batches.share(rank, number)
            parts.append(list(batches))
            assert len(batches) == 4
        whole = KeyedBatchSampler(KeyedSampler(23, seed=1), batch_size=6)
        whole.set_epoch(2)
        assert [[key for part in batch for key in part] for batch in zip(*parts, strict=True)] == list(whole)[1:]
        sizes = [len(part) for batch in zip(*parts, strict=True) for part in batch]
        assert max(sizes) - min(size for size in sizes) <= 2


def test_the_blocks_of_an_evaluation_follow_one_another():
    for length in (1, 6, 7, 24, 25):
        for number in (1, 2, 3, 5):
            blocks = []
            for rank in range(number):
                batches = BlockBatchSampler(length, batch_size=6)
                batches.share(rank, number)
                assert len(list(batches)) == len(batches)
                blocks += list(batches)
            assert [index for batch in blocks for index in batch] == list(range(length))
            assert blocks == list(BlockBatchSampler(length, batch_size=6))


def test_a_batch_smaller_than_the_processes_is_a_sentence():
    cfg = {"training": {"batch_size": 2}, "data": {"dataset": {"name": "shapes", "num_images": 8}, "image_size": 32}}
    loader = mtv.build_loader(cfg, mtv.build_dataset(cfg), training=True)
    with pytest.raises(DataError, match=r"a batch of 2 images cannot be shared by 3 processes: choose a larger"):
        loader.share(0, 3)
