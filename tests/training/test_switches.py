"""Memory format, compilation, accumulation, averaged weights, a frozen backbone: each against what it must equal."""

import pytest
import torch
from small_runs import built, configured, distance, fitted, parameters, same, statistics, without_cpp
from torch import nn

import mtvision as mtv
from mtvision.losses.segmentation import CrossEntropy
from mtvision.tasks.segmentation import SegmentationTask
from mtvision.training.checkpoint import load_weights
from mtvision.types import FeatureInfo

EXACT = torch.float64


class Seen(mtv.Callback):
    """Weights and statistics at the beginning and after each epoch."""

    def __init__(self):
        self.weights, self.statistics, self.trained = [], [], []

    def on_fit_start(self, trainer):
        self.on_epoch_end(trainer, {})

    def on_epoch_end(self, trainer, row):
        self.weights.append(parameters(trainer.model))
        self.statistics.append(statistics(trainer.model.backbone))

    def on_step_end(self, trainer, step):
        backbone = list(trainer.model.backbone.parameters())
        self.trained.append({parameter.requires_grad for parameter in backbone})


@pytest.fixture(scope="module")
def plain():
    return fitted(configured(), dtype=EXACT)


def test_channels_last_is_another_layout_of_the_same_numbers(plain):
    model, data = built(cfg := configured(system__channels_last=True), EXACT)
    last = []
    model.backbone.register_forward_pre_hook(
        lambda _, images: last.append(images[0].is_contiguous(memory_format=torch.channels_last))
    )
    mtv.Trainer(model, cfg, progress=False).fit(data)
    assert last == [True] * 3
    maps = [parameter for parameter in model.parameters() if parameter.ndim == 4]
    assert maps
    assert all(parameter.is_contiguous(memory_format=torch.channels_last) for parameter in maps)
    assert not all(parameter.is_contiguous() for parameter in maps)
    assert distance(parameters(model), parameters(plain.model)) < 1e-9
    assert distance(parameters(plain.model), parameters(built(cfg, EXACT)[0])) > 1e-2


class Tiny(nn.Module):
    """A backbone whose compilation does not take long."""

    feature_info = (FeatureInfo(8, 4),)

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8)

    def forward(self, images):
        return [self.norm(self.convolution(images)).relu()]


class Last(nn.Conv2d):
    """A head."""

    def forward(self, features):
        return super().forward(features[0])


def test_a_compiled_network_is_the_network(monkeypatch):
    graphs = without_cpp(monkeypatch)

    def trained(compiled):
        torch.manual_seed(0)
        model = mtv.MultiTaskModel(Tiny(), {"seg": SegmentationTask(Last(8, 6, 1), 6, CrossEntropy())}).to(EXACT)
        cfg = configured(system__compile=compiled, system__epochs=2)
        data = mtv.build_dataset(cfg, "train")
        history = mtv.Trainer(model, cfg, progress=False).fit(data, mtv.build_dataset(cfg, "val"))
        return model, history

    eager, expected = trained(False)
    assert graphs == []
    model, history = trained(True)
    assert len(graphs) == 1
    assert {**parameters(model), **statistics(model)}.keys() == model.state_dict().keys()
    assert distance(model.state_dict(), eager.state_dict()) < 1e-9
    assert history[1]["val/loss"] == pytest.approx(expected[1]["val/loss"], rel=1e-9)
    assert history[1]["train/loss"] < history[0]["train/loss"]


def test_a_balancer_that_goes_back_several_times_is_refused_when_compiled():
    with pytest.raises(mtv.ConfigError, match=r"system\.compile: balancer 'mgda' goes back several times"):
        fitted(configured(system__compile=True, training__balancer="mgda"))


def test_accumulated_batches_are_the_large_batch():
    """Where a loss is a mean over pixels or images: as many in each batch here, so a mean of means is their mean."""
    head = {"name": "retinanet", "num_convs": 1}
    values = {"model__norm": "group", "model__detection_head": head, "model__neck": {"name": "fpn", "channels": 32}}
    large = fitted(configured(training__batch_size=4, **values), dtype=EXACT)
    small = fitted(configured(training__batch_size=2, training__accumulate=2, **values), dtype=EXACT)
    assert distance(parameters(small.model), parameters(large.model)) < 1e-12
    assert small.history[0]["train/loss"] == pytest.approx(large.history[0]["train/loss"], rel=1e-6)
    assert distance(parameters(large.model), parameters(built(configured(**values), EXACT)[0])) > 1e-2


class SlowAverage(mtv.Callback):
    """The average by its definition, tensor by tensor."""

    def __init__(self, decay):
        self.decay, self.by_epoch = decay, {}

    def on_fit_start(self, trainer):
        self.values = {name: value.clone() for name, value in trainer.model.state_dict().items()}

    def on_step_end(self, trainer, step):
        decay = min(self.decay, 1 - step.global_step ** (-2 / 3))
        for name, value in trainer.model.state_dict().items():
            old = self.values[name]
            self.values[name] = decay * old + (1 - decay) * value if value.is_floating_point() else value.clone()

    def on_epoch_end(self, trainer, row):
        self.by_epoch[row["epoch"]] = dict(self.values)


def test_the_averaged_weights_are_scored_and_kept_and_the_others_trained(tmp_path):
    """6 steps: in the first three the decay is still growing."""
    cfg = configured(training__ema_decay=0.55, system__epochs=2)
    slow = SlowAverage(0.55)
    trained = fitted(cfg, slow, validate=True, run_dir=tmp_path / "run")
    for which, epoch in (("best", trained.monitor.epoch), ("last", 2)):
        averaged = mtv.load_model(tmp_path / "run", which)
        assert distance(averaged.state_dict(), slow.by_epoch[epoch]) < 1e-6
    metrics = mtv.evaluate(averaged, mtv.build_dataset(cfg, "val")).metrics
    assert metrics["seg/miou"] == pytest.approx(trained.history[1]["val/seg/miou"], abs=1e-6)
    assert distance(parameters(averaged), parameters(trained.model)) > 1e-3
    load_weights(averaged, tmp_path / "run" / "checkpoints" / "last", "training.safetensors")
    assert same(averaged.state_dict(), trained.model.state_dict())
    assert not (tmp_path / "run" / "checkpoints" / "best" / "training.safetensors").exists()
    plain = fitted(configured(system__epochs=2))
    assert same(parameters(plain.model), parameters(trained.model))


@pytest.fixture(scope="module")
def frozen():
    seen = Seen()
    return fitted(configured(training__freeze_backbone_epochs=1, system__epochs=2), seen), seen


def test_a_frozen_backbone_stays_bit_for_bit_and_then_learns(frozen):
    trainer, seen = frozen
    start, first, second = seen.weights
    backbone, others = ([name for name in start if name.startswith("backbone.") == inside] for inside in (True, False))
    assert len(backbone) > 20
    for name in backbone:
        assert torch.equal(start[name], first[name]), name
    assert all(not torch.equal(start[name], first[name]) for name in others)
    assert any(not torch.equal(first[name], second[name]) for name in backbone)
    assert same(seen.statistics[0], seen.statistics[1])
    means = [name for name in seen.statistics[0] if name.endswith(("running_mean", "running_var"))]
    assert means
    assert all(not torch.equal(seen.statistics[1][name], seen.statistics[2][name]) for name in means)
    assert seen.trained == [{False}] * 3 + [{True}] * 3
    assert all(parameter.requires_grad for parameter in trainer.model.parameters())


def test_what_the_user_froze_stays_frozen():
    model, data = built(cfg := configured(training__freeze_backbone_epochs=1, system__epochs=2))
    stem = next(iter(model.backbone.parameters()))
    stem.requires_grad_(False)
    before = parameters(model)
    mtv.Trainer(model, cfg, progress=False).fit(data)
    after = parameters(model)
    changed = [name for name in before if name.startswith("backbone.") and not torch.equal(before[name], after[name])]
    assert not stem.requires_grad
    assert torch.equal(next(iter(model.backbone.parameters())), next(iter(before.values())))
    assert len(changed) > 20


@pytest.mark.parametrize("balancer", ["mgda", "gradnorm"])
def test_a_frozen_backbone_leaves_a_balancer_on_gradients_the_plain_sum(frozen, balancer):
    """There is no gradient to balance in the first epoch; in the second one it acts."""
    seen = Seen()
    fitted(configured(training__freeze_backbone_epochs=1, system__epochs=2, training__balancer=balancer), seen)
    start, first, second = seen.weights
    assert distance(first, frozen[1].weights[1]) < 1e-5
    assert distance(second, frozen[1].weights[2]) > 1e-3
    assert distance(start, first) > 1e-2
