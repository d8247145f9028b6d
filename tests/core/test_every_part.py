"""Every registered part, chosen by its name in the config, takes a training step and predicts."""

import pytest
import torch

import mtvision as mtv
from tests.core.test_factory import SMALL, synthetic_targets

KEYS = {
    "model.segmentation_head": mtv.SEGMENTATION_HEADS,
    "model.detection_head": mtv.DETECTION_HEADS,
    "model.neck": mtv.NECKS,
    "model.activation": mtv.ACTIVATIONS,
    "model.init_scheme": mtv.INITIALIZERS,
    "model.norm": mtv.NORMS,
    "model.detections.nms": mtv.SUPPRESSIONS,
    "training.seg_loss": mtv.SEGMENTATION_LOSSES,
    "training.det_loss": mtv.BOX_LOSSES,
    "training.det_class_loss": mtv.CLASSIFICATION_LOSSES,
    "training.det_assigner": mtv.ASSIGNERS,
}
NEEDED = {"sum": {"name": "sum", "terms": ["cross_entropy", {"name": "lovasz", "weight": 0.5}]}}
REFUSED = {("model.neck", "none"): r"detection head 'fpn' shares its towers between levels .* choose a neck"}


def step(values):
    """Return the loss parts of one step; every parameter that can learn got a gradient, and all of it is finite."""
    model = mtv.build_model(mtv.Config(model=SMALL).replace(values))
    losses = model.loss(model(torch.rand(2, 3, 64, 64)), synthetic_targets())
    parts = {f"{task}/{name}": part for task, found in losses.items() for name, part in found.items()}
    torch.stack(list(parts.values())).sum().backward()
    assert all(torch.isfinite(part) for part in parts.values()), parts
    learning = [p for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(p.grad).all() for p in learning)
    assert len(learning) > 0.9 * len(list(model.parameters()))
    assert set(model.predict(torch.rand(3, 64, 64))[0]) == {"seg", "det"}
    return parts


@pytest.mark.parametrize(
    ("key", "name"), [(key, name) for key, registry in KEYS.items() for name in registry.own_names()]
)
def test_every_part_takes_a_training_step_by_its_name(key, name):
    values = {key: NEEDED.get(name, name)}
    if (key, name) in REFUSED:
        with pytest.raises(mtv.ConfigError, match=REFUSED[key, name]):
            step(values)
    else:
        assert {part.split("/")[0] for part in step(values)} == {"seg", "det"}


@pytest.mark.parametrize("assigner", mtv.ASSIGNERS.own_names())
@pytest.mark.parametrize("head", mtv.DETECTION_HEADS.own_names())
def test_every_detection_head_learns_by_every_assigner(head, assigner):
    parts = step({"model.detection_head": head, "training.det_assigner": assigner})
    assert parts["det/box"] > 0


@pytest.mark.parametrize("loss", mtv.BOX_LOSSES.own_names())
def test_an_anchor_based_head_learns_by_every_box_loss(loss):
    assert step({"model.detection_head": "retinanet", "training.det_loss": loss})["det/box"] > 0


@pytest.mark.parametrize("loss", ["varifocal", "quality_focal"])
@pytest.mark.parametrize("assigner", ["max_iou", "task_aligned"])
def test_quality_losses_go_with_hard_and_soft_assigners(loss, assigner):
    assert step({"training.det_class_loss": loss, "training.det_assigner": assigner})["det/class"] > 0
