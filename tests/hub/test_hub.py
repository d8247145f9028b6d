"""Uploads and downloads, with the hub's two ends replaced by a folder: nothing here needs a network."""

import json

import pytest
from huggingface_hub import ModelCard
from small_shapes import CONFIG, outputs, same_outputs

import mtvision as mtv

MODEL = "user/street"


def test_what_is_pushed_comes_back(hub):
    model = mtv.build_model(CONFIG).eval()
    results = mtv.EvaluationResult({"seg/miou": 0.25})
    assert model.push_to_hub(MODEL, results=results, card={"license": "mit"}) == f"commit of {MODEL}"
    assert sorted(path.name for path in (hub.root / MODEL).iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    card = ModelCard.load(hub.root / MODEL / "README.md")
    assert (card.data.license, card.data.eval_results[0].metric_value) == ("mit", 0.25)
    assert f'from_pretrained("{MODEL}")' in card.text
    loaded = mtv.MultiTaskModel.from_pretrained(MODEL, revision="v1")
    assert same_outputs(outputs(loaded), outputs(model))
    assert hub.asked[-2:] == [
        ("file", MODEL, "config.json", "v1"),
        ("snapshot", MODEL, ("config.json", "model.safetensors"), "v1"),
    ]


def test_a_part_that_is_missing_here_is_named_and_not_the_hub(hub):
    mtv.build_model(CONFIG).push_to_hub(MODEL)
    path = hub.root / MODEL / "config.json"
    content = json.loads(path.read_text())
    content["config"]["model"]["activation"] = "mine"
    path.write_text(json.dumps(content))
    with pytest.raises(mtv.CheckpointError, match="unknown activation 'mine'") as caught:
        mtv.MultiTaskModel.from_pretrained(MODEL)
    assert "no model of the hub" not in str(caught.value)


def test_the_options_of_an_upload_arrive(hub):
    mtv.build_model(CONFIG).push_to_hub(
        MODEL, private=True, token="secret", branch="b", commit_message="First", ignore_patterns="README.md"
    )
    assert hub.asked == [("create", MODEL, True, True, "secret"), ("upload", MODEL, "First", "b", "README.md")]


def test_a_model_from_parts_makes_no_repository(hub):
    built = mtv.build_model(CONFIG)
    with pytest.raises(mtv.ConfigError, match="was put together from parts"):
        mtv.MultiTaskModel(built.backbone, {"seg": built.task("seg")}).push_to_hub(MODEL)
    assert hub.asked == []


def test_an_unknown_option_is_an_error(hub):
    with pytest.raises(TypeError, match="privat"):
        mtv.build_model(CONFIG).push_to_hub(MODEL, privat=True)
    assert hub.asked == []


def test_options_of_a_download_are_refused_for_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"revision: is for models of the hub, but .* is a folder here"):
        mtv.MultiTaskModel.from_pretrained(tmp_path, revision="v1")


def test_a_name_that_can_be_no_repository_is_named():
    with pytest.raises(
        mtv.CheckpointError, match=r"runs/of/mine: no folder here, and no model of the hub that can be had"
    ):
        mtv.MultiTaskModel.from_pretrained("runs/of/mine")


def test_a_model_that_is_not_in_the_cache_is_named(tmp_path):
    with pytest.raises(mtv.CheckpointError, match=f"{MODEL}: no folder here, and no model of the hub"):
        mtv.MultiTaskModel.from_pretrained(MODEL, cache_dir=tmp_path, local_files_only=True)


@pytest.mark.parametrize(("said", "told"), [("no connection\nat all", "no connection"), ("", "OSError")])
def test_what_a_download_raises_is_told(said, told, hub, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(said)

    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", fail)
    with pytest.raises(mtv.CheckpointError, match=rf"{MODEL}: no folder here, .*\({told}\)"):
        mtv.MultiTaskModel.from_pretrained(MODEL)


def test_a_whole_cache_is_enough(tmp_path):
    """The real download functions find a model in a cache as they lay it out, without a network."""
    model = mtv.build_model(CONFIG).eval()
    place = tmp_path / f"models--{MODEL.replace('/', '--')}"
    commit = "0" * 40
    model.save_pretrained(place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    loaded = mtv.MultiTaskModel.from_pretrained(MODEL, cache_dir=tmp_path, local_files_only=True)
    assert same_outputs(outputs(loaded), outputs(model))
