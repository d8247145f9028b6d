"""Parts by role and name."""

import pytest
from command_line import run

import mtvision as mtv
from mtvision import registries
from mtvision.components import component_roles, describe_component, find_role, list_components
from mtvision.registry import Registry


def test_every_registry_is_a_role():
    known = {name.lower(): value for name, value in vars(registries).items() if isinstance(value, Registry)}
    assert {role.name: role.registry for role in component_roles()} == known


def test_each_role_is_chosen_by_its_keys():
    defaults = mtv.Config().dump()
    for role in component_roles():
        for key in role.keys:
            value = defaults
            for part in key.split("."):
                value = value[part]
            if isinstance(value, str):
                assert value in role.registry, key
    chosen = {role.name: role.keys for role in component_roles()}
    assert chosen["segmentation_heads"] == ("model.segmentation_head", "model.auxiliary_heads")
    assert chosen["suppressions"] == ("model.detections.nms",)
    assert [name for name, keys in chosen.items() if not keys] == ["designs"]


@pytest.mark.parametrize(
    "name", ["segmentation_losses", "segmentation-losses", "SEGMENTATION_LOSSES", "training.seg_loss", "seg_loss"]
)
def test_a_role_has_several_names(name):
    assert find_role(name).registry is mtv.SEGMENTATION_LOSSES


def test_an_unknown_role_is_told_with_the_nearest():
    with pytest.raises(mtv.ConfigError, match=r"role: there is no 'neckz'\. Did you mean 'necks'\? Known: backbones,"):
        find_role("neckz")


def test_names_and_descriptions_are_the_registrys():
    assert list_components("backbones", "resnet1*") == mtv.BACKBONES.names("resnet1*")
    assert list_components("necks", "z*") == []
    assert describe_component("det_loss", "iou") == mtv.BOX_LOSSES.describe("iou")
    with pytest.raises(mtv.RegistryError, match="Did you mean 'iou'"):
        describe_component("det_loss", "ioou")


def test_the_verb_lists_one_name_a_line():
    assert run("list", "necks").output.splitlines() == mtv.NECKS.names()
    assert run("list", "model.neck", "*fpn").output.splitlines() == ["bifpn", "fpn", "simple_fpn"]


def test_without_a_role_the_verb_lists_all():
    lines = run("list").output.splitlines()
    assert len(lines) == 1 + len(component_roles())
    row = next(line for line in lines if line.startswith("detection_heads "))
    assert row.split() == ["detection_heads", "model.detection_head", "fcos,", "fpn,", "retinanet,", "single_scale"]
    assert next(line for line in lines if line.startswith("optimizers ")).endswith("adamw, sgd, ...")
