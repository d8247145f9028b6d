"""The config that ``init-config`` writes is the defaults, and its schema takes what `Config` takes."""

import json

import jsonschema
import pytest
import yaml
from command_line import run

import mtvision as mtv
from mtvision.component_schema import component_schemas
from mtvision.config_template import MAIN_KEYS, config_schema, config_template, default_text, init_config
from mtvision.registries import BOX_LOSSES, SEGMENTATION_HEADS

SCHEMA = config_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def dotted(content, prefix=""):
    for key, value in content.items():
        if isinstance(value, dict) and key in ("system", "model", "training", "data", "detections"):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("full", [True, False])
def test_the_written_config_is_the_defaults(tmp_path, full):
    path = init_config(tmp_path / "new" / "run.yaml", full=full)
    assert mtv.Config.load(path) == mtv.Config()
    written = dict(dotted(yaml.safe_load(path.read_text())))
    defaults = dict(dotted(mtv.Config().dump()))
    assert written == (defaults if full else {key: defaults[key] for key in MAIN_KEYS})
    assert path.read_text().splitlines()[0] == "# yaml-language-server: $schema=run.schema.json"
    assert json.loads((tmp_path / "new" / "run.schema.json").read_text()) == json.loads(json.dumps(SCHEMA))


def test_every_key_stands_behind_what_it_means():
    lines = config_template().splitlines()
    keys = [place for place, line in enumerate(lines) if line.startswith("  ") and not line.strip().startswith("#")]
    assert len(keys) == len(dict(dotted(mtv.Config().dump()))) + 1  # detections is a key with keys
    assert [lines[place] for place in keys if not lines[place - 1].strip().startswith("#")] == []


def test_no_field_of_the_config_is_without_words():
    def unexplained(section, prefix):
        for key, info in section.model_fields.items():
            if isinstance(info.annotation, type) and hasattr(info.annotation, "model_fields"):
                yield from unexplained(info.annotation, f"{prefix}{key}.")
            elif not info.description:
                yield f"{prefix}{key}"

    assert list(unexplained(mtv.Config, "")) == []


def test_comments_tell_types_and_choices_in_the_words_of_yaml():
    text = " ".join(line.strip().removeprefix("# ") for line in config_template().splitlines())
    assert "passes over the training set (int >= 1) epochs: 60" in text
    assert "(assigner: atss, center_sampling, max_iou, task_aligned) det_assigner: null" in text
    assert "(raise | skip) on_error: raise" in text
    assert "None" not in text
    assert "'" not in text.replace("'s ", "").replace("tasks' ", "").replace("VOC's", "").replace("boxes' ", "")


def test_a_file_that_is_there_stays(tmp_path):
    (tmp_path / "run.schema.json").write_text("mine")
    with pytest.raises(mtv.ConfigError, match=r"run\.schema\.json: is there already"):
        init_config(tmp_path / "run.yaml")
    assert not (tmp_path / "run.yaml").exists()
    init_config(tmp_path / "run.yaml", overwrite=True)
    assert (tmp_path / "run.schema.json").read_text() != "mine"


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(mtv.ConfigError, match="cannot be written"):
        init_config(tmp_path / "file" / "run.yaml")


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


GOOD = [
    {},
    mtv.Config().dump(),
    {"data": {"image_size": 64}},
    {"data": {"image_size": [64, 96], "multi_scale": [0.5, 1.5], "mixes": ["mosaic", {"name": "mixup"}]}},
    {"data": {"cache": "somewhere", "num_workers": 2, "dataset": {"name": "shapes", "num_images": 5}}},
    {"model": {"backbone": "swin_tiny_patch4_window7_224", "detection_head": None, "pretrained": "weights.pth"}},
    {"model": {"backbone": {"name": "resnet18", "output_stride": 16}, "num_classes": {"seg": 3}}},
    {"model": {"tasks": {"scene": "classification"}}},
    {"training": {"seg_loss": [{"name": "dice", "weight": 0.5}, "cross_entropy"], "optimizer": "lamb"}},
    {"training": {"seg_loss": {"name": "focal", "gamma": 1}, "batch_size": "auto", "lr": 1}},
    {"system": {"trackers": ["tensorboard"], "device": "cuda:1"}},
]
BAD = [
    ({"systm": {}}, "$"),
    ({"system": {"epochs": 0}}, "$.system.epochs"),
    ({"system": {"device": "gpu"}}, "$.system.device"),
    ({"data": {"image_size": 8}}, "$.data.image_size"),
    ({"data": {"num_workers": "all"}}, "$.data.num_workers"),
    ({"model": {"segmentation_head": "fnc"}}, "$.model.segmentation_head"),
    ({"model": {"detections": {"nms_treshold": 0.5}}}, "$.model.detections"),
    ({"training": {"det_loss": {"name": "iou", "lgo": True}}}, "$.training.det_loss"),
    ({"training": {"seg_loss": [{"name": "dice", "weight": 0}]}}, "$.training.seg_loss"),
    ({"training": {"lr": "fast"}}, "$.training.lr"),
]


@pytest.mark.parametrize("content", GOOD, ids=range(len(GOOD)))
def test_the_schema_takes_what_the_config_takes(content):
    mtv.Config(**content)
    assert list(VALIDATOR.iter_errors(content)) == []


@pytest.mark.parametrize(("content", "path"), BAD)
def test_the_schema_refuses_what_the_config_refuses(content, path):
    with pytest.raises(mtv.ConfigError):
        mtv.Config(**content)
    errors = VALIDATOR.iter_errors(content)
    assert [error.json_path for error in errors] == [path]


def test_the_schema_has_the_defaults_of_the_file():
    for name, section in mtv.Config().dump().items():
        properties = SCHEMA["$defs"][f"{name.capitalize()}Config"]["properties"]
        assert {key: properties[key]["default"] for key in section if key != "detections"} == {
            key: value for key, value in section.items() if key != "detections"
        }


def test_a_part_of_ones_own_is_in_the_schema():
    @SEGMENTATION_HEADS.register("mine")
    def mine(feature_info, num_classes, *, width: int):
        """A head of one's own."""

    name, *options = component_schemas(SEGMENTATION_HEADS)
    assert "mine" in name["enum"]
    own = next(each for each in options if each["properties"]["name"] == {"const": "mine"})
    assert own["required"] == ["name", "width"]
    jsonschema.validate({"model": {"segmentation_head": {"name": "mine", "width": 3}}}, config_schema())


def test_options_are_explained_and_further_keys_stand_beside_them():
    schemas = component_schemas(BOX_LOSSES, {"weight": {"type": "number"}})
    iou = next(each for each in schemas[1:] if each["properties"]["name"] == {"const": "iou"})
    assert set(iou["properties"]) == {"name", "weight", "log"}
    assert iou["properties"]["log"]["default"] is False
    assert iou["properties"]["log"]["description"].startswith("bool: ")


def test_a_default_is_typed_as_behind_its_key():
    keys = dict(dotted(mtv.Config().dump()))
    assert mtv.Config().override([f"{key}={default_text(key)}" for key in keys]) == mtv.Config()
    assert default_text("training.loss_weights") == "{seg: 1.0, det: 1.0}"


def test_the_verb_writes_and_refuses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("init-config")
    assert (done.exit_code, done.output.split(":")[0]) == (0, "written")
    assert mtv.Config.load("config.yaml") == mtv.Config()
    again = run("init-config")
    assert (again.exit_code, again.output) == (
        2,
        "error: config.yaml: is there already; choose another name, or overwrite it\n",
    )
    assert run("init-config", "--minimal", "--overwrite").exit_code == 0
    assert "warmup_epochs" not in (tmp_path / "config.yaml").read_text()
