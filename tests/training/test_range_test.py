"""The range test against a problem whose best rates are known, and that it leaves no trace."""

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import as_loader, built, configured, same
from torch import nn
from toy_tasks import ToyBackbone, toy_batch

import mtvision as mtv
from mtvision import TrainingError
from mtvision.tasks.base import Task
from mtvision.training.range_test import RangeTest


class Quadratic(Task):
    """A bowl, ``curvature / 2 * |w|^2``, plus ``offset``; nothing else is learned."""

    main_metric = "distance"

    def __init__(self, curvature, offset=0.0):
        super().__init__()
        self.curvature, self.offset = curvature, offset
        self.weights = nn.Parameter(torch.ones(4))

    def forward(self, features, image_size):
        return features[0]

    def loss(self, output, target):
        return {"bowl": self.curvature / 2 * self.weights.square().sum() + self.offset + 0 * output.sum()}

    def postprocess(self, output, image_sizes=None):
        return list(output)

    def metrics(self):
        from torchmetrics import MeanMetric, MetricCollection

        return MetricCollection({"distance": MeanMetric()})


def quadratic_trainer(curvature, offset=0.0, kind=Quadratic, **values):
    model = mtv.MultiTaskModel(ToyBackbone(), {"bowl": kind(curvature, offset)})
    settings = {"training__optimizer": {"name": "sgd", "momentum": 0.0}, "training__monitor": "loss", **values}
    return mtv.Trainer(model, configured(**settings), progress=False)


LOADER = as_loader([toy_batch(bowl=True)])


@pytest.mark.parametrize("curvature", [1.0, 100.0])
def test_on_a_bowl_the_suggestion_is_of_the_order_of_the_best_rate(curvature):
    """SGD goes straight to the bottom with 1 / curvature, and away from it above 2 / curvature."""
    found = quadratic_trainer(curvature).find_lr(LOADER, lowest=1e-6, highest=1e6, steps=200)
    assert 0.03 / curvature < found.suggestion < 2 / curvature
    assert found.suggestion in found.rates
    assert 2 / curvature < found.rates[-1] < 1e3  # it ended where it exploded
    assert found.losses[-1] > 4 * min(found.losses)
    assert found.losses[-2] <= 4 * min(found.losses)


def test_a_hundredfold_curvature_is_a_hundredth_of_the_rate():
    """On a grid of rates with 25 steps a factor of ten, the same numbers 50 steps earlier."""
    flat, steep = (
        quadratic_trainer(curvature).find_lr(LOADER, lowest=1e-6, highest=1e2, steps=200) for curvature in (1, 100)
    )
    assert flat.suggestion / steep.suggestion == pytest.approx(100, rel=0.1)


def test_rates_rise_by_the_same_factor_within_the_range():
    found = quadratic_trainer(1e-3).find_lr(LOADER, lowest=1e-4, highest=1e-1, steps=30)
    assert len(found.rates) == len(found.losses) == 30
    assert 1e-4 < found.rates[0] < found.rates[-1] < 1e-1
    factors = [after / before for before, after in zip(found.rates, found.rates[1:], strict=False)]
    assert factors == pytest.approx([1000 ** (1 / 30)] * 29, rel=1e-9)


def test_losses_are_the_moving_average_without_its_bias():
    """With rates that change nothing the loss is always the same, and so is its average, from the first step on."""
    found = quadratic_trainer(2.0).find_lr(LOADER, lowest=1e-15, highest=1e-14, steps=12)
    assert found.losses == pytest.approx([4.0] * 12, rel=1e-6)


def test_accumulation_makes_as_many_steps():
    plain, several = (
        quadratic_trainer(1.0, training__accumulate=number).find_lr(LOADER, lowest=1e-4, highest=1e-1, steps=20)
        for number in (1, 3)
    )
    assert len(several.rates) == 20
    assert several.losses[-1] == pytest.approx(plain.losses[-1], rel=0.02)


def test_a_negative_loss_does_not_count_as_exploded():
    found = quadratic_trainer(1.0, offset=-10.0).find_lr(LOADER, lowest=1e-4, highest=0.5, steps=40)
    assert len(found.rates) == 40
    assert found.losses[-1] == min(found.losses) < -9.0


def test_it_ends_before_what_is_not_finite():
    """The lowest point is at 1, and beyond 0, where too high a rate leads, there is no logarithm."""

    class Cliff(Quadratic):
        def loss(self, output, target):
            weights = 4 * self.weights
            return {"cliff": (weights - weights.log()).sum() + 0 * output.sum()}

    trainer = quadratic_trainer(1.0, kind=Cliff)
    found = trainer.find_lr(LOADER, lowest=1e-4, highest=1e3, steps=100)
    assert 10 <= len(found.rates) < 100
    assert all(math.isfinite(loss) for loss in found.losses)
    assert found.rates[-1] > 0.01
    with pytest.raises(TrainingError, match=r"1 steps in a row could not be made; .*cliff = nan"):
        trainer.find_lr(LOADER, lowest=1e2, highest=1e3)


@pytest.mark.parametrize("training", [False, True])
def test_model_mode_and_random_state_stay_as_they_were(training, tmp_path):
    cfg = configured(model__dropout_rate=0.3, data__augmentation_level="heavy", training__ema_decay=0.9)
    model, data = built(cfg)
    model.train(training)
    model.backbone.train(not training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    for generator in (torch.manual_seed, np.random.seed, random.seed):
        generator(5)
    trainer = mtv.Trainer(model, cfg, run_dir=tmp_path / "run", progress=False)
    found = trainer.find_lr(data, steps=12)
    drawn = (torch.rand(1).item(), np.random.rand(), random.random())  # noqa: NPY002
    for generator in (torch.manual_seed, np.random.seed, random.seed):
        generator(5)
    assert drawn == (torch.rand(1).item(), np.random.rand(), random.random())  # noqa: NPY002
    assert same(model.state_dict(), before)
    assert [part.training for part in model.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert "forward" not in vars(model)
    assert len(trainer.history) == 0
    assert not (tmp_path / "run").exists()
    assert 1e-6 < found.suggestion < 1.0


def test_a_training_after_it_is_the_one_without_it():
    cfg = configured(model__dropout_rate=0.3)
    weights = []
    for looks in (False, True):
        model, data = built(cfg)
        trainer = mtv.Trainer(model, cfg, progress=False)
        if looks:
            trainer.find_lr(data, steps=10)
        trainer.fit(data)
        weights.append(model.state_dict())
    assert same(*weights)


@pytest.mark.parametrize(
    "values",
    [{"lowest": 0.0}, {"lowest": -1.0}, {"lowest": 1.0}, {"highest": 1e-6}, {"highest": math.nan}, {"steps": 9}],
)
def test_a_range_that_is_none_is_a_sentence(values):
    given = {"lowest": 1e-6, "highest": 1.0, "steps": 100, **values}
    sentence = "expected 0 < lowest < highest and 10 steps or more, got " + ", ".join(map(str, given.values()))
    with pytest.raises(ValueError, match=f"^find_lr: {sentence}$"):
        quadratic_trainer(1.0).find_lr(LOADER, **values)


def test_the_plot_is_written_where_it_is_wanted(tmp_path):
    rates = tuple(10 ** (-6 + step / 20) for step in range(120))
    losses = tuple(3 - 2 / (1 + math.exp(-3 * (math.log10(rate) + 2.5))) + 50 * rate**3 for rate in rates)
    path = tmp_path / "plots" / "range.png"
    RangeTest(rates, losses, 10**-2.5).write_plot(path)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert pixels.shape[0] > 400
    red = (pixels[..., 0] > 180) & (pixels[..., 1:].max(axis=-1) < 80)  # the mark of the suggestion
    columns = np.flatnonzero(red.sum(axis=0) > 100)
    assert 0.4 < columns.mean() / pixels.shape[1] < 0.75
