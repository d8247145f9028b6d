"""The benchmark of memory, on a small network and small images, without the processes that make its numbers clean."""

import importlib
import json
import os
import sys

import numpy as np
import pytest
import torch

from benchmark_scripts import BENCHMARKS

MIB = 2**20


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture
def memory(load, monkeypatch):
    module = load("memory")
    monkeypatch.setattr(module, "in_fresh_process", lambda function, *values, exact=False: function(*values))
    return module


def test_training_has_a_row_each_and_the_loop_itself_is_1(memory, load, monkeypatch, tmp_path, capsys):
    peaks = {"backbone alone": 1, "plain loop, lean model": 4, "plain loop, our model": 5, "Trainer.fit": 6}
    seen = []

    def step_memory(name, setting):
        seen.append((name, setting.size, setting.batch))
        return peaks[name] * MIB

    monkeypatch.setattr(memory, "step_memory", step_memory)
    monkeypatch.setattr(memory.peers, "has_smp", lambda: False)
    setting = load("memory_step").Setting("test_resnet")
    rows = memory.main(setting, {64: 2}, repeats=1, only=["training"], output=tmp_path / "rows.json")
    assert seen == [(name, 64, 2) for name in peaks] * 2  # once as it is, once exactly
    assert [row["training"] for row in rows] == list(peaks)
    assert [row["peak, MiB"] for row in rows] == [1, 4, 5, 6]
    assert rows[2]["x plain loop"] == rows[2]["needed, x plain loop"] == rows[1]["x lean model"] == 1
    assert (rows[3]["x plain loop"], rows[3]["needed, x lean model"]) == (6 / 5, 6 / 4)
    content = json.loads((tmp_path / "rows.json").read_text())
    assert content["tables"][0]["rows"] == rows
    printed = capsys.readouterr().out
    assert "found 1.200 x the same model's and 1.500 x the lean model's" in printed
    assert "segmentation_models_pytorch is not installed" in printed


def test_every_training_trains(load):
    step = load("memory_step")
    setting = step.Setting("test_resnet", size=64, batch=2, steps=1)
    data = step.data_of(setting)
    assert len(data.samples) == 2
    trainings = step.variants(setting)
    assert list(trainings)[:4] == [step.BACKBONE, step.LEAN, step.PLAIN, step.OURS]
    for train in trainings.values():
        train(setting, data)


def test_the_meter_sees_what_was_held_and_is_free_again(load):
    with load("memory_meter").PeakMemory() as peak:
        assert peak.so_far() < 4 * MIB
        block = np.ones(64 * MIB, dtype=np.uint8)
        del block
    assert 63 * MIB <= peak.bytes < 80 * MIB


def test_a_fresh_process_has_the_allocator_that_was_asked_for(load):
    fresh = load("memory_meter").in_fresh_process
    assert fresh(os.getenv, "MALLOC_MMAP_THRESHOLD_", exact=True) == "65536"
    assert fresh(os.getpid) != os.getpid()
    assert os.getenv("MALLOC_MMAP_THRESHOLD_") is None


def test_scoring_tells_what_an_image_adds(memory, load, monkeypatch):
    growth = load("memory_growth")
    monkeypatch.setattr(growth, "scoring_memory", lambda tasks, counts, size: [MIB, 2 * MIB, 2 * MIB + 4 * 1024 * 600])
    rows = memory.main(counts=(50, 200, 800), repeats=2, only=["scoring"])
    assert [row["tasks"] for row in rows] == ["seg", "det", "seg + det"]
    assert {row["growth, KiB an image"] for row in rows} == {4}
    assert [row["50 images, MiB"] for row in rows] == [1, 1, 1]
    assert rows[0]["its mask, KiB"] == 375 * 500 / 1024


@pytest.mark.parametrize("tasks", ["seg", "det", "seg + det"])
def test_scoring_memory_never_falls(load, tasks):
    found = load("memory_growth").scoring_memory(tasks, [1, 3], (40, 50))
    assert 0 <= found[0] <= found[1]


def test_workers_have_a_row_for_each_kind_of_memory(memory, tmp_path):
    rows = memory.main(epochs=3, workers=1, images=2, root=_folder(tmp_path), only=["workers"])
    assert [row["memory of a worker"] for row in rows] == ["alone (USS)", "share (PSS)", "resident (RSS)"]
    alone, share, resident = (row["epoch 3, MiB"] for row in rows)
    assert 0 < alone <= resident
    if sys.platform == "linux":
        assert alone <= share <= resident


def test_workers_are_left_out_without_psutil(memory, monkeypatch, capsys):
    monkeypatch.setattr(memory, "find_spec", lambda name: None)
    memory.main(only=["workers"])
    assert "psutil is not installed (pip install -r benchmarks/requirements.txt)" in capsys.readouterr().out


def test_slope_is_that_of_the_line(load):
    assert load("memory_growth").slope([5.0, 7.0, 9.0]) == pytest.approx(2)


def test_points_learn_the_smallest_box_of_their_level(load):
    lean = load("memory_lean")
    points = torch.tensor([[20.0, 20.0], [100.0, 100.0], [300.0, 300.0]])
    strides = torch.tensor([8.0, 8.0, 16.0])
    boxes = torch.tensor([[[0.0, 0, 60, 60], [10.0, 10, 30, 30], [280.0, 280, 400, 400], [0.0, 0, 0, 0]]])
    owners = lean.assigned(points, strides, boxes, torch.tensor([[True, True, True, False]]))
    # the first lies in two boxes, the second in none, the third 100 pixels from an edge: of stride 16, 64 to 128
    assert owners.tolist() == [[1, -1, 2]]
    assert lean.assigned(points, torch.full((3,), 8.0), boxes, torch.ones(1, 4) > 0).tolist() == [[1, -1, -1]]


def test_the_lean_model_learns_from_images_without_objects_too(load):
    lean = load("memory_lean")
    model = lean.LeanModel("test_resnet", 6, 5)
    output = model(torch.rand(2, 3, 64, 64))
    assert output.masks.shape == (2, 6, 64, 64)
    assert output.classes.shape[1] == output.points.shape[0] == 64 + 16 + 4 + 1 + 1
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    one = {"boxes": torch.tensor([[4.0, 4, 40, 44]]), "labels": torch.tensor([2])}
    masks = torch.zeros(2, 64, 64, dtype=torch.int64)
    for targets in ([nothing, nothing], [nothing, one]):
        loss = lean.lean_loss(model(torch.rand(2, 3, 64, 64)), masks, targets)
        loss.backward()
        assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in model.mask_head.parameters())


def _folder(folder):
    from mtvision.data.readers.shapes import Shapes
    from mtvision.data.writers.write_voc import write_voc

    write_voc(Shapes("train", num_images=4, image_size=64), folder / "voc", "train", classes=Shapes.classes)
    return folder / "voc"
