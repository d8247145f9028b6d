"""A folder of `save_pretrained` gives the model again, exactly, and says what it is."""

import json
import math

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from small_shapes import CONFIG, outputs, same_outputs

import mtvision as mtv
from mtvision.hub.folder import without_places


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return mtv.train(CONFIG, tmp_path_factory.mktemp("runs") / "a", progress=False)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    return run.model.save_pretrained(tmp_path_factory.mktemp("hub") / "street", results=run)


@pytest.mark.parametrize("load", [mtv.MultiTaskModel.from_pretrained, mtv.load_model])
def test_the_round_trip_is_exact(load, run, folder):
    loaded = load(folder)
    assert not loaded.training
    assert loaded.classes == run.model.classes
    assert loaded.image_size == run.model.image_size
    assert same_outputs(outputs(loaded), outputs(run.model))
    data = mtv.build_dataset(CONFIG, "val")
    numbers = mtv.evaluate(loaded, data)
    assert {name: numbers.metrics[name] for name in run.metrics if name != "score"} == pytest.approx(
        {name: value for name, value in run.metrics.items() if name != "score"}, abs=0, nan_ok=True
    )


def test_there_is_one_set_of_weights(folder):
    with pytest.raises(mtv.CheckpointError, match="has one set of weights, of save_pretrained; there is no 'last'"):
        mtv.load_model(folder, which="last")


def test_the_tilde_of_a_home_folder_is_known(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    saved = mtv.load_model(folder).save_pretrained("~/street")
    assert saved == tmp_path / "street"
    for load in (mtv.MultiTaskModel.from_pretrained, mtv.load_model):
        assert load("~/street").config == mtv.load_model(folder).config


def test_a_loaded_model_is_saved_the_same_again(run, folder, tmp_path):
    again = mtv.load_model(folder).save_pretrained(tmp_path / "street", results=run)
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_what_was_learned_from_the_data_comes_along(tmp_path):
    model = mtv.build_model({**CONFIG, "data": {**CONFIG["data"], "preprocessing": "normalize"}})
    model.normalization.set_statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    loaded = mtv.load_model(model.save_pretrained(tmp_path / "a"))
    assert not loaded.normalization.pending
    assert torch.equal(loaded.normalization.mean, model.normalization.mean)


def test_config_json_has_the_config_the_classes_and_the_numbers(run, folder):
    content = json.loads((folder / "config.json").read_text())
    assert content["library_name"] == "mtvision"
    assert content["versions"]["mtvision"] == mtv.__version__
    assert content["config"]["training"]["lr"] == CONFIG["training"]["lr"]
    assert content["classes"]["det"] == list(run.model.classes.detection)
    assert {name: math.nan if value is None else value for name, value in content["metrics"].items()} == pytest.approx(
        run.metrics, abs=0, nan_ok=True
    )
    assert content["per_class"].keys() == run.per_class.keys()
    assert mtv.Config(**content["config"]).model == mtv.Config(**run.model.config).model


def test_the_card_says_it_to_the_hub(run, folder):
    data = ModelCard.load(folder / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.datasets) == ("mtvision", "image-segmentation", ["shapes"])
    assert {"mtvision", "image-segmentation", "object-detection", "test_resnet"} <= set(data.tags)
    found = {
        result.metric_name: (result.task_type, result.metric_type, result.metric_value) for result in data.eval_results
    }
    finite = {name: value for name, value in run.metrics.items() if math.isfinite(value)}
    assert finite
    kinds = {"seg": "image-segmentation", "det": "object-detection", "score": "other"}
    assert found == {
        name: (kinds[name.partition("/")[0]], name.partition("/")[2] or name, value) for name, value in finite.items()
    }


def test_the_card_says_it_to_people(run, folder):
    text = (folder / "README.md").read_text()
    assert "# street\n" in text
    assert f"| seg/miou | {run.metrics['seg/miou']:.4f} |" in text
    name, value = next(iter(run.per_class["seg/iou"].items()))
    row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    assert (f"{value:.4f}" if math.isfinite(value) else "none") in row
    config = text.partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(config) == json.loads((folder / "config.json").read_text())["config"]


def test_the_use_on_the_card_runs(folder, monkeypatch):
    text = (folder / "README.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    names = {}
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(mtv.MultiTaskModel, "predict", lambda model, path: [(path, sorted(model.tasks))])
    exec(code, names)
    assert names["prediction"] == ("photo.jpg", ["det", "seg"])


def test_a_card_without_results_claims_nothing(tmp_path):
    folder = mtv.build_model(CONFIG).save_pretrained(tmp_path / "a")
    card = ModelCard.load(folder / "README.md")
    assert card.data.eval_results is None
    assert card.data.metrics is None
    assert "Nobody said what these weights reach." in card.text
    assert json.loads((folder / "config.json").read_text())["metrics"] == {}


def test_a_number_that_does_not_exist_is_none_and_not_for_the_hub(tmp_path):
    results = mtv.EvaluationResult({"seg/miou": 0.25, "det/map50": math.nan}, per_class={"seg/iou": {"a|b": math.nan}})
    folder = mtv.build_model(CONFIG).save_pretrained(tmp_path / "a", results=results)
    card = ModelCard.load(folder / "README.md")
    assert [result.metric_name for result in card.data.eval_results] == ["seg/miou"]
    assert "| det/map50 | none |" in card.text
    assert r"| a\|b | none |" in card.text


def test_the_card_takes_more_metadata(tmp_path):
    model = mtv.build_model(CONFIG)
    card = {"license": "mit", "tags": ["street"], "datasets": ["me/streets"]}
    data = ModelCard.load(model.save_pretrained(tmp_path / "a", card=card) / "README.md").data
    assert (data.license, data.datasets) == ("mit", ["me/streets"])
    assert {"street", "mtvision"} <= set(data.tags)
    one = ModelCard.load(model.save_pretrained(tmp_path / "one", card={"tags": "street"}) / "README.md").data
    assert one.tags == data.tags
    with pytest.raises(ValueError, match="card: unknown key 'licence'; known: base_model, datasets"):
        model.save_pretrained(tmp_path / "b", card={"licence": "mit"})
    assert not (tmp_path / "b").exists()


def test_a_card_that_is_there_is_kept(tmp_path, caplog):
    (tmp_path / "README.md").write_text("mine")
    mtv.build_model(CONFIG).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert "README.md: is kept as it is" in caplog.text


def test_a_model_of_one_further_task_has_the_hubs_name_for_it(tmp_path):
    model = mtv.build_model(
        {
            **CONFIG,
            "model": {
                "backbone": "test_resnet",
                "segmentation_head": None,
                "detection_head": None,
                "tasks": {"distance": {"name": "depth"}},
            },
            "training": {"loss_weights": {"distance": 1.0}},
        }
    )
    data = ModelCard.load(model.save_pretrained(tmp_path / "a") / "README.md").data
    assert data.pipeline_tag == "depth-estimation"


def test_no_place_of_this_machine_leaves_it(tmp_path):
    secret = tmp_path / "secret"
    config = mtv.Config(**CONFIG).replace({"system.run_dir": str(secret / "run"), "data.dataset_root": str(secret)})
    folder = mtv.build_model(config).save_pretrained(tmp_path / "a")
    for name in ("config.json", "README.md"):
        assert str(tmp_path) not in (folder / name).read_text()
    assert mtv.load_model(folder).config["data"]["dataset_root"] == "secret"


@pytest.mark.parametrize(
    ("given", "expected"),
    [("C:\\data\\voc", "voc"), ("~/voc", "voc"), ("/a/b/c.pth", "c.pth"), ("runs/a", "runs/a"), (True, True), ("", "")],
)
def test_absolute_paths_keep_their_last_part(given, expected):
    assert without_places({"a": [given]}) == {"a": [expected]}


def test_a_model_from_parts_is_refused_before_anything_is_written(tmp_path):
    built = mtv.build_model(CONFIG)
    model = mtv.MultiTaskModel(built.backbone, {"seg": built.task("seg")})
    with pytest.raises(mtv.ConfigError, match="was put together from parts"):
        model.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_weights_are_not_downloaded_to_be_overwritten(tmp_path, monkeypatch):
    folder = mtv.build_model(CONFIG).save_pretrained(tmp_path / "a")
    content = json.loads((folder / "config.json").read_text())
    content["config"]["model"]["pretrained"] = True
    (folder / "config.json").write_text(json.dumps(content))

    def download(*arguments, **options):
        raise AssertionError("nothing is to be downloaded")

    monkeypatch.setattr("timm.models._builder.load_pretrained", download)
    assert mtv.load_model(folder).config["model"]["pretrained"] is True


def test_a_part_of_ones_own_is_named_where_it_is_missing(tmp_path):
    folder = mtv.build_model(CONFIG).save_pretrained(tmp_path)
    content = json.loads((folder / "config.json").read_text())
    content["config"]["model"]["activation"] = "mine"
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(mtv.CheckpointError, match=r"registered first.*unknown activation 'mine'"):
        mtv.load_model(folder)
    mtv.ACTIVATIONS.register("mine")(lambda: torch.nn.ReLU())
    assert mtv.load_model(folder).config["model"]["activation"] == "mine"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("config.json", b'{"model_type": "bert"}', "config.json: not a checkpoint's description"),
        ("config.json", b"{", "config.json: not a checkpoint's description"),
        ("model.safetensors", b"nothing", "model.safetensors: cannot be read as weights"),
    ],
)
def test_a_damaged_folder_says_which_file(name, content, sentence, tmp_path):
    folder = mtv.build_model(CONFIG).save_pretrained(tmp_path / "a")
    (folder / name).write_bytes(content)
    with pytest.raises(mtv.CheckpointError, match=sentence):
        mtv.MultiTaskModel.from_pretrained(folder)


def test_a_newer_format_is_refused(tmp_path):
    folder = mtv.build_model(CONFIG).save_pretrained(tmp_path / "a")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(mtv.CheckpointError, match="written by a newer mtvision"):
        mtv.load_model(folder)
