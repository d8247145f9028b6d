"""Each verb on a small run says and writes what its function returns."""

import inspect
import json
import re
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from command_line import SETTINGS, ok, run
from PIL import Image

import mtvision as mtv
import mtvision.exporting.exporter
from mtvision.components import describe_component

pytestmark = pytest.mark.usefixtures("without_curves")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, without_curves):
    folder = tmp_path_factory.mktemp("runs")
    told = {}
    for name, lr in (("a", 0.01), ("b", 0.1)):
        told[name] = run("train", *SETTINGS, f"training.lr={lr}", "--run-dir", folder / name)
        assert told[name].exit_code == 0, told[name].output
    return folder, told


@pytest.fixture(scope="module")
def data(trained):
    return mtv.build_dataset(trained[0] / "a" / "config.yaml", "val")


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


def test_train_shows_a_table_and_keeps_the_run(trained):
    folder, told = trained
    assert re.search(r"^ +epoch +lr +seconds .*seg/miou", told["a"].output, flags=re.MULTILINE)
    config = mtv.Config.load(folder / "a" / "config.yaml")
    assert config.training.lr == 0.01
    assert config.model.backbone.name == "test_resnet"


def test_the_same_command_reads_a_finished_run_and_so_does_its_folder_wherever_it_is(trained, tmp_path):
    folder, _ = trained
    assert "this run is finished" in ok("train", *SETTINGS, "training.lr=0.01", "--run-dir", folder / "a")
    moved = (folder / "a").rename(tmp_path / "moved")
    try:
        assert f"{moved}: this run is finished" in ok("train", moved)
        assert not (folder / "a").exists()
    finally:
        moved.rename(folder / "a")


def test_the_tilde_is_the_home_folder_wherever_a_path_is_given(trained, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    said = ok("train", *SETTINGS, "--run-dir=~/home/run", "-q")
    assert mtv.load_model("~/home/run").config == mtv.load_model(tmp_path / "home" / "run").config, said
    ok("train", *SETTINGS, "system.run_dir=~/home/second", "-q")
    assert ok("evaluate", "~/home/second") == ok("evaluate", tmp_path / "home" / "run")
    assert "2 images predicted" in ok("predict", "~/home/run", "~/photos", "--out=~/predictions")
    assert (tmp_path / "predictions").is_dir()
    (tmp_path / "shapes.yaml").write_text("data: {dataset: {name: shapes, num_images: 8, image_size: 32}}")
    ok("check-data", "~/shapes.yaml", "--split", "val", "--json=~/found.json")
    assert (tmp_path / "found.json").is_file()
    assert mtv.Config.load("~/shapes.yaml").data.dataset.name == "shapes"
    assert not (tmp_path / "~").exists()


def test_a_run_of_another_config_is_refused(trained):
    refused = run("train", *SETTINGS, "training.lr=0.5", "--run-dir", trained[0] / "a")
    assert refused.exit_code == 1
    assert "training.lr: 0.01 there, 0.5 now" in refused.output


def test_evaluate_tells_and_saves_the_numbers(trained, data, tmp_path):
    said = ok("evaluate", trained[0] / "a", "--protocol", "coco", "--device", "cpu", "--save", tmp_path / "val")
    result = mtv.evaluate(trained[0] / "a", data, protocol="coco")
    assert said == f"{result}\nwritten: {tmp_path / 'val'}\n"
    saved = json.loads((tmp_path / "val" / "metrics.json").read_text())["metrics"]
    assert saved.keys() == result.metrics.keys()
    assert saved["seg/miou"] == result.metrics["seg/miou"]


def test_evaluate_takes_the_checkpoint_and_the_images_that_are_named(trained, tmp_path):
    folder, _ = trained
    test = mtv.build_dataset(folder / "a" / "config.yaml", "test")
    last = mtv.evaluate(mtv.load_model(folder / "a", "last"), test)
    only_last = tmp_path / "only_last"
    shutil.copytree(folder / "a" / "checkpoints" / "last", only_last / "checkpoints" / "last")
    assert ok("evaluate", only_last, "--which", "last", "--split", "test") == f"{last}\n"
    assert "no checkpoint 'best' in it; checkpoints there: last" in run("evaluate", only_last).output
    assert ok("evaluate", folder / "a" / "checkpoints" / "last", "--split", "test") == f"{last}\n"
    fewer = mtv.build_dataset({"data": {"dataset": {"name": "shapes", "num_images": 4, "image_size": 32}}}, "val")
    said = ok("evaluate", folder / "a", "data.dataset.num_images=4", "--batch-size", 1)
    assert said == f"{mtv.evaluate(folder / 'a', fewer)}\n"


def test_evaluate_refuses_settings_that_would_change_nothing(trained):
    refused = run("evaluate", trained[0] / "a", "training.lr=1")
    assert refused.exit_code == 2
    assert refused.output.startswith("error: training.lr: changes nothing in a run that was trained")
    misspelled = run("evaluate", trained[0] / "a", "data.dataset_rot=x")
    assert misspelled.exit_code == 2
    assert "Did you mean 'dataset_root'?" in misspelled.output


def test_evaluate_names_what_was_left_out(trained, monkeypatch):
    result = mtv.EvaluationResult({"seg/miou": 0.5}, skipped=("a.jpg: is no image",))
    monkeypatch.setattr("mtvision.training.evaluate.evaluate", lambda *arguments, **options: result)
    done = run("evaluate", trained[0] / "a", "data.on_error=skip")
    assert (done.stdout, done.stderr) == (f"{result}\n", "skipped: a.jpg: is no image\n")


def test_predict_writes_pictures_masks_and_results(trained, photos, tmp_path):
    out = tmp_path / "out"
    said = ok("predict", trained[0] / "a", photos, "--out", out, "--score-threshold", 0)
    assert said == f"2 images predicted, 0 skipped: {out}\n"
    expected = mtv.predict_folder(trained[0] / "a", photos, tmp_path / "expected", score_threshold=0)
    files = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert len(files) == 6
    assert [(out / file).read_bytes() for file in files] == [(expected.folder / file).read_bytes() for file in files]


def test_predict_in_several_views(trained, photos, tmp_path):
    images = sorted(photos.iterdir())
    how = ("--flip", "--scale", 1, "--scale", 2, "--window", 20, 30, "--batch-size", 3, "-q", "--device", "cpu")
    assert ok("predict", trained[0] / "a", *images, "--out", tmp_path / "out", *how) == ""
    views = mtv.Predictor(trained[0] / "a", flip=True, scales=(1, 2), window=(20, 30), fusion="nms", batch_size=3)
    mtv.predict_folder(views, images, tmp_path / "expected")
    masks = [sorted((tmp_path / name / "masks").iterdir()) for name in ("out", "expected")]
    assert [path.read_bytes() for path in masks[0]] == [path.read_bytes() for path in masks[1]]


def test_predict_leaves_out_what_is_no_image_and_replaces_files(trained, photos, tmp_path):
    (photos / "bad.png").write_bytes(b"no image")
    failed = run("predict", trained[0] / "a", photos, "--out", tmp_path / "out")
    assert failed.exit_code == 1
    assert "bad.png" in failed.output
    words = ("predict", trained[0] / "a", photos, "--out", tmp_path / "out", "--skip-bad")
    assert ok(*words).endswith(f"2 images predicted, 1 skipped: {tmp_path / 'out'}\n")
    assert "it is already there" in run(*words).output
    assert ok(*words, "--overwrite").endswith(f"2 images predicted, 1 skipped: {tmp_path / 'out'}\n")


def test_predict_a_film(trained, tmp_path):
    film = tmp_path / "walk.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 5, (50, 40))
    for shade in range(0, 200, 50):
        writer.write(np.full((40, 50, 3), shade, np.uint8))
    writer.release()
    said = ok("predict", trained[0] / "a", film, "--out", tmp_path / "films", "--every", 2)
    assert said == f"2 of 4 frames predicted: {tmp_path / 'films' / 'walk.mp4'}\n"
    assert (tmp_path / "films" / "walk.detections.json").is_file()
    named = ok("predict", trained[0] / "a", film, "--out", tmp_path / "named.avi")
    assert named == f"4 of 4 frames predicted: {tmp_path / 'named.avi'}\n"


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        (["PHOTOS", "--every", "2"], "--every: counts the frames of a film"),
        (["PHOTOS/one.png", "--recursive"], "--recursive: looks into folders"),
        (["walk.mp4", "--skip-bad"], "--skip-bad: leaves out images"),
        (["PHOTOS", "PHOTOS/one.png"], "is no image; give images, or one folder, or one film"),
        (["PHOTOS/one.png", "walk.mp4"], "walk.mp4: is no image"),
        (["PHOTOS", "--flip", "--fusion", "mean"], "fusion: there is no 'mean'"),
        (["PHOTOS", "--score-threshold", "2"], "--score-threshold"),
        (["PHOTOS", "--device", "gpu"], "system.device"),
    ],
)
def test_predict_refuses_options_that_do_not_act(trained, photos, sources, sentence):
    refused = run("predict", trained[0] / "a", *(word.replace("PHOTOS", str(photos)) for word in sources))
    assert refused.exit_code == 2, refused.output
    assert sentence in " ".join(refused.output.split())


@pytest.fixture(scope="module")
def saved(trained, data):
    """A folder of `save_pretrained`: it has no ``checkpoint.json``."""
    folder = trained[0] / "a"
    return mtv.load_model(folder).save_pretrained(trained[0] / "saved", results=mtv.evaluate(folder, data))


def test_a_saved_model_is_scored_and_described_as_its_run_is(trained, saved, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mtvision.analysis.run_report.write_run_report",
        lambda *arguments, **options: SimpleNamespace(html=arguments[2] / "report.html"),
    )
    folder = trained[0] / "a"
    assert ok("evaluate", saved) == ok("evaluate", folder)
    assert ok("analyze", saved, "--out", tmp_path) == ok("analyze", folder, "--out", tmp_path)
    refused = run("analyze", saved)  # the report has pictures of the data, and the folder may be shared
    assert (refused.exit_code, "--out: " in refused.output) == (2, True)
    assert ok("describe", saved).startswith(f"{saved}: seg/miou")
    assert ok("describe", saved).endswith(f"\n\n{mtv.load_model(folder).describe()}\n")
    said = ok("compare", folder, saved, "--resamples", 10)
    assert said == f"{mtv.compare([folder, folder], names=['a', 'saved'], resamples=10)}\n"


def test_compare_tells_and_saves(trained, tmp_path):
    runs = [trained[0] / "a", trained[0] / "b"]
    said = ok("compare", *runs, "--resamples", 10, "--name", "low", "--name", "high", "--save", tmp_path / "c")
    found = mtv.compare(runs, names=["low", "high"], resamples=10)
    assert said == f"{found}\n\nwritten: {tmp_path / 'c'}\n"
    assert (tmp_path / "c" / "comparison.json").is_file()
    elsewhere = ok("compare", *runs, "--resamples", 10, "--data-root", tmp_path)  # shapes need no folder
    assert "2 runs on the same 2 images" in elsewhere


def test_one_run_cannot_be_compared(trained):
    refused = run("compare", trained[0] / "a")
    assert (refused.exit_code, "two or more runs" in refused.output) == (2, True)


def test_analyze_writes_a_report(trained, data, monkeypatch):
    seen = {}

    def write(analysis, samples, folder, **options):
        seen.update(options, analysis=analysis, ids=list(samples.image_ids), folder=folder)
        return SimpleNamespace(html=folder / "report.html")

    monkeypatch.setattr("mtvision.analysis.run_report.write_run_report", write)
    folder = trained[0] / "a"
    assert ok("analyze", folder) == f"{mtv.evaluate(folder, data)}\nwritten: {folder / 'report' / 'report.html'}\n"
    assert seen["analysis"].result.metrics == mtv.evaluate(folder, data).metrics
    assert (seen["title"], seen["ids"]) == ("a: what it gets wrong on val", list(data.image_ids))
    assert seen["config"] == mtv.Config.load(folder / "config.yaml")
    assert [row["epoch"] for row in seen["history"]] == [1]
    ok("analyze", folder / "checkpoints" / "best", "--split", "test", "--out", folder / "x")
    assert (seen["folder"], seen["history"]) == (folder / "x", None)


def test_describe(trained, tmp_path):
    folder = trained[0] / "a"
    assert ok("describe", "seg_loss", "focal") == f"{describe_component('segmentation_losses', 'focal')}\n"
    said = ok("describe", folder)
    assert said.endswith(f"\n\n{mtv.load_model(folder).describe()}\n")
    assert "checkpoints/best: epoch 1: seg/miou" in said
    model = mtv.build_model(mtv.Config.load(folder / "config.yaml", ["model.segmentation_head=unet"]))
    assert ok("describe", folder / "config.yaml", "model.segmentation_head=unet") == f"{model.describe()}\n"
    for words, sentence in (
        ([folder, "a=b"], "a=b: changes nothing"),
        (["nothing"], "nothing: there is no such run or config"),
        (["seg_loss", "focl"], "Did you mean 'focal'?"),
        (["seg_los", "focal"], "role: there is no 'seg_los'"),
    ):
        refused = run("describe", *words)
        assert (refused.exit_code, sentence in refused.output) == (2, True), refused.output


def test_export_hands_its_options_on(trained, tmp_path, monkeypatch):
    seen = {}

    def export(model, path, **options):
        seen.update(options, model=model, path=path)
        return SimpleNamespace(path=path, outputs=("seg", "det.boxes"), largest_difference=2e-6, num_bytes=3 * 2**19)

    monkeypatch.setattr("mtvision.exporting.export", export)
    said = ok("export", trained[0] / "a", tmp_path / "m.onnx")
    first, second = said.splitlines()
    assert first == f"written: {tmp_path / 'm.onnx'}, 1.5 MiB, differs from the model by 2e-06 at most"
    assert second == "outputs: seg, det.boxes"
    defaults = inspect.signature(mtvision.exporting.exporter.export).parameters
    assert all(defaults[name].default == value for name, value in seen.items() if name not in ("model", "path"))
    words = "--postprocess raw --dynamic none --image-size 64 96 --batch-size 2 --input-type float32 --opset 19"
    said = ok("export", trained[0] / "a", tmp_path / "m.onnx", *words.split(), "--no-check", "--which", "last")
    assert "1.5 MiB, not checked" in said
    given = {name: value for name, value in seen.items() if name not in ("model", "path")}
    assert given == {
        "postprocess": "raw",
        "dynamic": False,
        "image_size": (64, 96),
        "batch_size": 2,
        "input_type": "float32",
        "opset": 19,
        "check": False,
    }
    for words, sentence in (
        (["--dynamic", "alll"], "Did you mean 'all'?"),
        (["--batch-size", 2], "--batch-size: belongs to --dynamic none"),
    ):
        refused = run("export", trained[0] / "a", tmp_path / "m.onnx", *words)
        assert (refused.exit_code, sentence in refused.output) == (2, True), refused.output


def test_export_to_an_unknown_format_is_refused(trained, tmp_path):
    wrong = run("export", trained[0] / "a", tmp_path / "m.tflite")
    assert wrong.exit_code == 2
    assert "the suffix does not tell the format; expected .onnx or .pt2" in wrong.output
