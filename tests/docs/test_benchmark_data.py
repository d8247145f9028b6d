"""The benchmark of loading as it stands, on a few small images."""

import json
import time

import numpy as np
import pytest
import torch

import mtvision as mtv
from mtvision.data.readers.shapes import Shapes


@pytest.fixture
def settings(load_benchmark):
    small = {"images": 4, "size": 32, "batch": 2, "workers": (0,), "repeats": 1, "backbone": "test_resnet"}
    module = load_benchmark("data")
    return module, module.Settings(**small)


def test_every_pipeline_has_a_row_and_is_compared_with_torchvision(settings, tmp_path, capsys):
    module, small = settings
    (loading,) = module.main(small, tmp_path / "data.json")
    rows = {row["pipeline"]: row for row in loading.rows}
    assert list(rows) == [
        *("torchvision v2", "albumentations", "mtvision", "mtvision, to float"),
        *("mtvision cached", "mtvision cached, to float", "writing the cache"),
    ]
    peer = rows["torchvision v2"]
    assert (peer["x torchvision (wall)"], peer["x torchvision (CPU)"]) == (1, 1)
    for row in rows.values():
        assert row["x torchvision (wall)"] == pytest.approx(row["images/s"] / peer["images/s"])
    assert json.loads((tmp_path / "data.json").read_text())["tables"][0]["rows"] == loading.rows
    assert "'mtvision cached' at least 8 x torchvision v2; found" in capsys.readouterr().out


def test_batches_are_carried_in_a_second_table_and_a_model_waits_in_a_third(settings, monkeypatch):
    module, small = settings
    monkeypatch.setattr(module, "compare", lambda data, settings, workers: [{"pipeline": "none", "workers": workers}])
    _, carrying, waiting = module.main(small._replace(workers=(0, 1), step_images=4, epochs=2))
    assert [(row["masks"], row["workers"]) for row in carrying.rows] == [("int64", 1), ("bytes", 1)]
    of_int64, of_bytes = (row["MiB a batch"] * 2**20 for row in carrying.rows)
    assert (of_int64, of_bytes) == (2 * 32 * 32 * (3 + 8), 2 * 32 * 32 * (3 + 1))
    assert all(row["images/s"] > 0 and row["CPU ms of this process, a batch"] > 0 for row in carrying.rows)
    assert [(row["batches from"], row["workers"]) for row in waiting.rows] == [
        *(("one batch, there already", 0), ("files", 1), ("cache", 1))
    ]
    assert waiting.rows[0]["x of the step alone"] == 1
    assert all(0 <= row["of it for first batches"] <= row["waits, % of the time"] < 100 for row in waiting.rows[1:])
    assert "test_resnet, 32 px, 2 steps an epoch, epochs 2 to 2" in waiting.title


def test_too_few_images_are_no_benchmark(settings):
    module, small = settings
    with pytest.raises(SystemExit, match="4 images are too few: at least two batches of 3"):
        module.main(small._replace(batch=3))


def test_another_number_of_images_or_another_shape_is_other_work(load_benchmark):
    module = load_benchmark("data")
    module.check({"torchvision v2": 4, "mtvision": 4})
    with pytest.raises(SystemExit, match="'mtvision' gives 5 images an epoch, torchvision v2 4"):
        module.check({"torchvision v2": 4, "mtvision": 5})
    images, masks = torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8)
    assert module.count([(images, masks)] * 3, 8, torch.float32) == 6
    for batch, kind in (((images, masks), torch.uint8), ((images, masks[:, :4]), torch.float32)):
        with pytest.raises(SystemExit, match="expected"):
            module.count([batch], 8, kind)


@pytest.mark.parametrize(("arguments", "words"), [(["--enlarge"], "needs --root"), (["--epochs", "1"], "at least 2")])
def test_options_that_say_nothing_are_refused(load_benchmark, capsys, arguments, words):
    with pytest.raises(SystemExit):
        load_benchmark("data").parsed(arguments)
    assert words in capsys.readouterr().err


def test_options_reach_the_settings(load_benchmark, tmp_path):
    module = load_benchmark("data")
    arguments = ["--workers", "0", "3", "--repeats", "2", "--output", str(tmp_path / "x.json")]
    assert module.parsed(arguments) == (module.Settings(workers=(0, 3), repeats=2), tmp_path / "x.json")


def test_waiting_is_what_the_loader_takes(load_benchmark):
    module = load_benchmark("data_waiting")
    now = [0.0]

    def batches():
        for wait in (5, 1, 2):
            now[0] += wait
            yield mtv.Batch(torch.zeros(2, 3, 8, 8), {}, [], [], {})
        now[0] += 0.5  # the end is waited for as well

    def step(batch):
        now[0] += 10

    clock = pytest.MonkeyPatch()
    clock.setattr(time, "perf_counter", lambda: now[0])
    with clock.context():
        epoch = module.timed_epoch(batches(), step)
    clock.undo()
    assert epoch == module.Epoch(whole=38.5, first=5, others=3.5, images=6)
    alone = module.Epoch(30, 0, 0, 6)
    first, second = module.rows_of({module.ALONE: [alone, alone], ("files", 1): [epoch, epoch]})
    assert (first["images/s"], first["waits, % of the time"], first["x of the step alone"]) == (0.2, None, 1)
    assert second["waits, % of the time"] == pytest.approx(8.5 / 38.5 * 100)
    assert second["of it for first batches"] == pytest.approx(5 / 38.5 * 100)
    assert second["x of the step alone"] == pytest.approx(30 / 38.5)


def test_generated_images_are_jpegs_with_exact_annotations(load_benchmark, tmp_path):
    folder = load_benchmark("data_folders").generated(tmp_path / "devkit", 3, size=(50, 40))
    data, drawn = mtv.data.VOC(folder, "train"), Shapes("train", num_images=3, image_size=(40, 50))
    assert data.image_path(0).suffix == ".jpg"
    for ours, theirs in zip(data, drawn, strict=True):
        np.testing.assert_array_equal(ours.mask, theirs.mask)
        np.testing.assert_array_equal(ours.boxes, theirs.boxes)
        assert np.abs(ours.image.astype(int) - theirs.image).mean() < 12  # compressed


def test_enlarged_boxes_lie_around_their_objects(load_benchmark, tmp_path):
    module = load_benchmark("data_folders")
    small = module.generated(tmp_path / "small", 3, size=(50, 40))
    large = mtv.data.VOC(module.enlarged(small, tmp_path / "large", size=(100, 120)), "train")
    for ours, theirs in zip(large, mtv.data.VOC(small, "train"), strict=True):
        assert ours.image.shape == (120, 100, 3)
        assert ours.mask.shape == (120, 100)
        np.testing.assert_allclose(ours.boxes, theirs.boxes * [2, 3, 2, 3], atol=3)
