"""What the shells offer, asked as their scripts ask."""

import pytest
from command_line import run

import mtvision as mtv


def offered(line, shell="bash"):
    """Return the words offered at the end of a line, of which bash makes words at each ``=``."""
    if shell == "bash":
        words = line.replace("=", " = ").split() + ([""] if line.endswith(" ") else [])
        environment = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    else:
        environment = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    told = run(_MTVISION_COMPLETE=f"complete_{shell}", **environment)
    return [text.partition("\t")[0] for text in told.output.split()]


def test_verbs():
    assert offered("mtvision st") == ["stats", "study"]
    assert offered("mtvision study ") == ["plan", "run", "work", "report", "confirm"]


def test_a_key_of_the_config_is_completed_up_to_its_value():
    assert offered("mtvision train training.lr") == [
        "training.lr=",
        "training.lr_schedule=",
        "training.lr_batch_size_reference=",
    ]
    assert offered("mtvision train training.warm") == ["training.warmup_epochs=", "training.warmup_epochs=1.0"]
    assert offered("mtvision train model.detections.max") == [
        "model.detections.max_detections=",
        "model.detections.max_detections=100",
    ]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("training.lr=", ["0.002"]),
        ("training.seg_loss=f", ["focal"]),
        ("training.lr_schedule=", ["constant", "cosine", "step"]),
        ("model.share_neck=t", ["true"]),
        ("data.on_error=", ["raise", "skip"]),
        ("model.backbone=resnet101", [name for name in mtv.BACKBONES.names() if name.startswith("resnet101")]),
    ],
)
def test_values_of_a_key(word, values):
    key = word.partition("=")[0]
    assert offered(f"mtvision train {word}") == values
    assert offered(f"mtvision train run.yaml {word}") == values
    assert offered(f"mtvision train {word}", "fish") == [f"{key}={value}" for value in values]
    assert offered(f"mtvision train un{word}", "fish") == []


def test_a_second_setting_is_a_key_again():
    assert offered("mtvision train training.lr=0.1 system.ep") == ["system.epochs=", "system.epochs=60"]
    assert offered("mtvision evaluate runs/a data.exc") == ["data.exclude=", "data.exclude=null"]


def test_names_of_parts():
    assert offered("mtvision list seg") == ["segmentation_heads", "segmentation_losses"]
    assert offered("mtvision list necks f") == ["fpn"]
    assert offered("mtvision describe detection_heads f") == ["fcos", "fpn"]
    assert offered("mtvision describe run.yaml system.ep", "fish") == ["system.epochs=", "system.epochs=60"]
    assert len(offered("mtvision list backbones ")) == 200


def test_runs_and_configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a" / "checkpoints").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "config.yaml").write_text("")
    (tmp_path / "runs" / "abandoned").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "run.yaml").write_text("")
    (tmp_path / "run.txt").write_text("")
    assert offered("mtvision evaluate ") == ["runs/"]
    assert offered("mtvision evaluate runs/") == ["runs/a", "runs/abandoned/"]
    assert offered("mtvision compare runs/a runs/a") == ["runs/a", "runs/abandoned/"]
    assert offered("mtvision evaluate nowhere/") == []
    assert offered("mtvision train ru") == ["run.yaml", "runs/"]
    assert offered("mtvision describe run") == ["run.yaml", "runs/"]
    assert offered(f"mtvision evaluate {tmp_path}/runs/a") == [f"{tmp_path}/runs/a", f"{tmp_path}/runs/abandoned/"]
    assert offered("mtvision predict runs/ab") == ["runs/abandoned/"]
    (tmp_path / "runs" / "abandoned" / "model.safetensors").touch()  # as in what save_pretrained writes
    assert offered("mtvision predict runs/ab") == ["runs/abandoned"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_gets_a_script_that_asks_the_command(shell):
    script = run(_MTVISION_COMPLETE=f"source_{shell}").output
    assert f"_MTVISION_COMPLETE=complete_{shell}" in script
