import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

import mtvision.backbones  # noqa: F401 - fills the registry
from mtvision.backbones.weights import load_backbone_weights
from mtvision.errors import CheckpointError
from mtvision.registries import BACKBONES


def backbone(name="test_resnet"):
    return BACKBONES.build(name, False)


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "mobilenetv3_small_050"]
)
def test_a_classifiers_weights_fill_the_backbone(name, tmp_path):
    classifier = timm.create_model(name, pretrained=False, num_classes=7).eval()
    save_file(classifier.state_dict(), tmp_path / "weights.safetensors")
    loaded = backbone(name).eval()
    load_backbone_weights(loaded, tmp_path / "weights.safetensors")
    images = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        expected = classifier.forward_intermediates(images, intermediates_only=True)[-1]
        torch.testing.assert_close(loaded(images)[-1], expected)


@pytest.mark.parametrize("suffix", ["pth", "pt"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {
            "state_dict": {f"module.backbone.{k}": v for k, v in state.items()} | {"fc.bias": torch.ones(3)}
        },
    ],
    ids=["plain", "state_dict", "data_parallel", "backbone"],
)
def test_forms_of_a_file(wrap, suffix, tmp_path):
    source, target = backbone(), backbone()
    torch.save(wrap(source.net.state_dict()), tmp_path / f"w.{suffix}")
    load_backbone_weights(target, tmp_path / f"w.{suffix}")
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def saved(path, state):
    torch.save(state, path)
    return path


def test_missing_weights_are_counted_and_named(tmp_path):
    state = backbone().net.state_dict()
    missing = [key for key in state if key.endswith("weight")][:2]
    path = saved(tmp_path / "w.pth", {key: value for key, value in state.items() if key not in missing})
    with pytest.raises(CheckpointError, match=rf"w.pth: 2 of the backbone's \d+ weights are missing: {missing[0]}"):
        load_backbone_weights(backbone(), path)


def test_another_shape_is_named(tmp_path):
    state = backbone().net.state_dict()
    key = next(iter(state))
    path = saved(tmp_path / "w.pth", state | {key: torch.zeros(3, 3)})
    with pytest.raises(CheckpointError, match=rf"1 weights have another shape .*{key} is \(3, 3\), expected"):
        load_backbone_weights(backbone(), path)


def test_weights_of_a_deeper_network_are_refused(tmp_path):
    path = saved(tmp_path / "w.pth", backbone("resnet34").net.state_dict())
    with pytest.raises(CheckpointError, match=r"weights are of a larger backbone: layer1\.2"):
        load_backbone_weights(backbone("resnet18"), path)


def test_a_refused_file_changes_nothing(tmp_path):
    target = backbone()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    state = {key: torch.zeros_like(value) for key, value in target.net.state_dict().items()}
    state[list(state)[-2]] = torch.zeros(1, 2, 3)
    with pytest.raises(CheckpointError):
        load_backbone_weights(target, saved(tmp_path / "w.pth", state))
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


class Payload:
    pass


def test_pickle_is_refused(tmp_path):
    path = saved(tmp_path / "w.pth", {"model": Payload()})
    with pytest.raises(CheckpointError, match=r"w\.pth: needs pickle"):
        load_backbone_weights(backbone(), path)
    (tmp_path / "p.pt").write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(CheckpointError, match=r"p\.pt: "):
        load_backbone_weights(backbone(), tmp_path / "p.pt")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_damaged_and_missing_files_are_named(name, tmp_path):
    with pytest.raises(CheckpointError, match=f"{name}: no such file"):
        load_backbone_weights(backbone(), tmp_path / name)
    for content in (b"", b"this is no checkpoint", b"PK\x03\x04" + bytes(100)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name}: "):
            load_backbone_weights(backbone(), tmp_path / name)


def test_other_contents_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="expected a state dict"):
        load_backbone_weights(backbone(), saved(tmp_path / "w.pth", [1, 2]))
    with pytest.raises(CheckpointError, match="holds no tensors; its first keys are epoch"):
        load_backbone_weights(backbone(), saved(tmp_path / "v.pth", {"epoch": 1}))
    (tmp_path / "w.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"must be a .safetensors, .pth or .pt file"):
        load_backbone_weights(backbone(), tmp_path / "w.bin")
