"""The config: what is accepted verbatim, and the sentence for everything that is not."""

import albumentations as A
import pytest
import yaml

from mtvision import ConfigError
from mtvision.config import Config, as_config
from mtvision.config_errors import flat_differences
from mtvision.registries import SEGMENTATION_HEADS

OPTIMAL_CONFIG = {
    "system": {"epochs": 60, "device": "cuda", "seed": 42},
    "model": {
        "backbone": "resnet18",
        "segmentation_head": "fcn",
        "detection_head": "fpn",
        "activation": "relu",
        "init_scheme": "xavier",
        "init_backbone": True,
        "dropout_rate": 0.3,
    },
    "training": {
        "lr": 0.002,
        "lr_schedule": "cosine",
        "batch_size": 32,
        "weight_decay": 0.0,
        "loss_weights": {"seg": 1.0, "det": 1.0},
        "seg_loss": "cross_entropy",
        "det_loss": "ciou",
    },
    "data": {"dataset_root": "./data/VOC2012", "preprocessing": "standardize", "augmentation_level": "basic"},
}
BEST_RUN = {
    **OPTIMAL_CONFIG,
    "model": {**OPTIMAL_CONFIG["model"], "init_scheme": "kaiming"},
    "training": {**OPTIMAL_CONFIG["training"], "lr": 0.0005},
    "data": {**OPTIMAL_CONFIG["data"], "preprocessing": "normalize", "augmentation_level": "heavy"},
}


def problems(**sections):
    with pytest.raises(ConfigError) as caught:
        Config(**sections)
    return caught.value.problems


@pytest.mark.parametrize("content", [OPTIMAL_CONFIG, BEST_RUN])
def test_the_reports_configurations_are_read_verbatim_also_from_yaml(content, tmp_path):
    cfg = Config(**content)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(content))
    assert Config.load(path) == cfg
    dumped = cfg.dump()
    for section, values in content.items():
        for key, value in values.items():
            expected = value if key != "dataset_root" else "data/VOC2012"
            assert dumped[section][key] == expected, (section, key)


def test_recommended_values_are_the_defaults_except_for_the_device():
    written = Config(**OPTIMAL_CONFIG).dump()
    written["system"]["device"], written["model"]["init_backbone"] = "auto", None
    assert Config().dump() == written


def test_dump_and_save_round_trip_with_options(tmp_path):
    cfg = Config(
        model={"detection_head": None, "init_scheme": {"name": "normal", "std": 0.02}},
        training={"seg_loss": {"name": "focal", "gamma": 1.5}},
        data={"image_size": [96, 160], "dataset": {"name": "shapes", "num_images": 7}},
    )
    cfg.save(tmp_path / "c.yaml")
    assert Config.load(tmp_path / "c.yaml") == cfg == Config(**cfg.dump())
    assert cfg.dump()["data"]["dataset"] == {"name": "shapes", "num_images": 7}


def test_all_problems_are_reported_at_once_each_with_path_and_suggestion():
    found = problems(
        model={"backbne": "resnet18", "segmentation_head": "fnc"},
        training={"seg_loss": {"name": "focal", "gama": 2.0}, "lr": -1},
    )
    assert sorted(found) == sorted(
        [
            "model.backbne: unknown key. Did you mean 'backbone'?",
            "model.segmentation_head: unknown segmentation head 'fnc'. Did you mean 'fcn'? "
            f"Available: {', '.join(SEGMENTATION_HEADS.names())}",
            "training.seg_loss.gama: loss 'focal' has no option 'gama'. Did you mean 'gamma'?",
            "training.lr: must be greater than 0, got -1",
        ]
    )


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"sytem": {}}, "sytem: unknown key. Did you mean 'system'?"),
        ({"model": {"lr": 1.0}}, "model.lr: unknown key. Did you mean 'training.lr'?"),
        ({"model": {"num_classes": {"sge": 3}}}, "model.num_classes.sge: unknown key. Did you mean 'seg'?"),
        ({"training": {"batch_size": "8"}}, "training.batch_size: must be an integer or 'auto', got '8'"),
        ({"training": {"batch_size": True}}, "training.batch_size: must be an integer or 'auto', got True"),
        ({"data": {"num_workers": -1}}, "data.num_workers: must be at least 0 or 'auto', got -1"),
        ({"data": {"cache": 3}}, "data.cache: must be true or false or a path, got 3"),
        ({"training": {"lr": float("nan")}}, "training.lr: must be a finite number, got nan"),
        ({"training": {"loss_weights": {"seg": -1.0}}}, "training.loss_weights.seg: must be at least 0, got -1.0"),
        (
            {"training": {"seg_loss": {"name": "focal", "gamma": -1}}},
            "training.seg_loss.gamma: must be at least 0, got -1",
        ),
        ({"training": {"det_loss": "cious"}}, "training.det_loss: unknown loss 'cious'. Did you mean 'ciou'?"),
        ({"model": {"dropout_rate": 1.0}}, "model.dropout_rate: must be less than 1, got 1.0"),
        ({"model": {"backbone": "resnet81"}}, "model.backbone: unknown backbone 'resnet81'. Did you mean 'resnet18'?"),
        ({"system": {"precision": "fp8"}}, "system.precision: must be one of 'fp32', 'bf16' or 'fp16', got 'fp8'"),
        (
            {"model": {"pretrained": True, "init_backbone": True}},
            "model.init_backbone: true would overwrite the weights",
        ),
        (
            {"model": {"pretrained": "w.pth", "zero_init_residual": True}},
            "model.zero_init_residual: true would overwrite",
        ),
        (
            {"model": {"segmentation_head": None, "detection_head": None}},
            "model.segmentation_head: null, as detection_head is",
        ),
        ({"data": {"preprocessing": {"name": "normalize", "mean": [0.5, 0.5, 0.5]}}}, "mean and std together"),
        ({"self": {}}, "self: unknown key."),
        ({"backbne": "resnet18"}, "backbne: unknown key. Did you mean 'model.backbone'?"),
        ({"training": {"seg_loss": {"name": "focal", "zzz": 1}}}, "has no option 'zzz'. Its options: gamma, alpha"),
        ({"training": {"optimizer": "adamm"}}, "training.optimizer: unknown optimizer 'adamm'. Did you mean 'adam'?"),
        ({"data": {"image_size": 8}}, "data.image_size.0: must be at least 16, got 8"),
        ({"data": {"image_size": [1, 2, 3]}}, "data.image_size: must be one number or [height, width], got [1, 2, 3]"),
        ({"model": {"pretrained": 3}}, "model.pretrained: must be true or false or a path, got 3"),
    ],
)
def test_one_clear_sentence(sections, sentence):
    assert any(sentence in problem for problem in problems(**sections)), problems(**sections)


def test_what_a_union_says_of_one_value_is_one_sentence():
    assert list(problems(data={"num_workers": "many", "cache": 3})) == [
        "data.cache: must be true or false or a path, got 3",
        "data.num_workers: must be an integer or 'auto', got 'many'",
    ]
    both = problems(training={"batch_size": 0, "epoch": 0, "warmup_epochs": -1})
    assert len(both) == 3


def test_overrides_are_read_as_yaml_and_reach_component_options(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("training:\n  lr: 1e-3\n  seg_loss: focal\n")
    cfg = Config.load(path, overrides=["training.lr=5e-4", "training.seg_loss.gamma=1", "model.detection_head=null"])
    assert cfg.training.lr == 5e-4
    assert cfg.training.seg_loss.options == {"gamma": 1.0}
    assert cfg.model.detection_head is None
    assert Config.load(path).training.lr == 1e-3


def test_overrides_reach_into_lists(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("training:\n  seg_loss: [cross_entropy, {name: dice, weight: 0.5}]\n")
    cfg = Config.load(path, overrides=["training.seg_loss.1.weight=2", "training.seg_loss.0.label_smoothing=0.1"])
    assert cfg.dump()["training"]["seg_loss"] == [
        {"name": "cross_entropy", "label_smoothing": 0.1},
        {"name": "dice", "weight": 2.0},
    ]
    assert cfg.replace({"training.seg_loss.1.weight": 3.0}).dump()["training"]["seg_loss"][1]["weight"] == 3.0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("training: {lr: 1", "not valid YAML"),
        ("- a\n- b\n", "expected a mapping with the sections"),
        ("training:\n  lr: 0.1\n  lr: 0.2\n", "the key 'lr' is written twice"),
        ("training: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_bad_yaml_names_the_file(text, sentence, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence) as caught:
        Config.load(path)
    assert "bad.yaml" in str(caught.value)


def test_contradictions_are_reported_with_all_other_problems():
    found = problems(
        model={"segmentation_head": None, "detection_head": None, "dropout_rate": 2.0, "backbne": 1}, training={"lr": 0}
    )
    assert [text.partition(":")[0] for text in found] == [
        "model.dropout_rate",
        "model.backbne",
        "model.segmentation_head",
        "training.lr",
    ]


@pytest.mark.parametrize("value", [None, [], 3])
def test_what_is_no_config_is_a_config_error(value):
    with pytest.raises(ConfigError, match="a config is a Config, a mapping or the path of a YAML file, got"):
        as_config(value)


def test_odd_keys_and_files_are_sentences(tmp_path):
    (tmp_path / "a.yaml").write_text("1: 2\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: 1: unknown key"):
        Config.load(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"b\.yaml: cannot be read \(it is not UTF-8 text\)"):
        Config.load(tmp_path / "b.yaml")


def test_missing_file_and_bad_override():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        Config.load("nowhere.yaml")


def test_an_override_without_a_value(tmp_path):
    (tmp_path / "c.yaml").write_text("training: {}\n")
    with pytest.raises(ConfigError, match=r"override 'a': expected dotted\.key=value"):
        Config.load(tmp_path / "c.yaml", overrides=["a"])


def test_the_model_section_alone_is_a_config():
    assert as_config({"backbone": "resnet34"}).model.backbone.name == "resnet34"
    with pytest.raises(ConfigError, match=r"model\.backbne: unknown key"):
        as_config({"backbne": "x", "activation": "relu"})


def test_init_backbone_follows_pretrained_unless_said():
    assert Config().model.initializes_backbone
    assert not Config(model={"pretrained": True}).model.initializes_backbone
    assert not Config(model={"init_backbone": False}).model.initializes_backbone


def test_an_albumentations_compose_becomes_a_description_that_survives_yaml(tmp_path):
    compose = A.Compose([A.HorizontalFlip(p=1.0)], bbox_params=A.BboxParams(format="pascal_voc"))
    cfg = Config(data={"augmentation_level": compose})
    assert cfg.data.augmentation_level.name == "albumentations"
    cfg.save(tmp_path / "c.yaml")
    assert Config.load(tmp_path / "c.yaml") == cfg


def test_frozen_and_replace():
    cfg = Config()
    with pytest.raises(Exception, match="frozen"):
        cfg.training.lr = 1.0
    assert cfg.replace({"training.lr": 0.1}).training.lr == 0.1
    assert cfg.training.lr == 0.002


def test_flat_differences():
    old, new = Config().dump(), Config(training={"lr": 0.1}, model={"backbone": "resnet34"}).dump()
    assert flat_differences(old, new) == {"training.lr": (0.002, 0.1), "model.backbone": ("resnet18", "resnet34")}
    assert flat_differences(old, new, ignore=["training.lr"]) == {"model.backbone": ("resnet18", "resnet34")}


def test_json_schema_for_editors():
    schema = Config.model_json_schema()
    assert set(schema["properties"]) == {"system", "model", "training", "data"}
