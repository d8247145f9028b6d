"""Two processes that share the weights are one: the same losses, weights, metrics; every checkpoint fits both."""

import json
import logging

import pytest
import torch
from several_processes import CONFIG, PROTOCOLS, SHARDED, PartlyAnnotated, launch, rows, run, run_cut, run_sharding
from small_runs import built, configured, fitted, parameters, same
from torch import nn

import mtvision as mtv
from mtvision.errors import ConfigError, TrainingError
from mtvision.registries import OPTIMIZERS
from mtvision.training import sharding

pytestmark = pytest.mark.usefixtures("without_curves")

ALONE = {**SHARDED, "system.sharding": "none"}
CHECKPOINTS = ("best/model", "last/model", "last/training")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A run of one process, and beside it one that was cut off."""
    folder = tmp_path_factory.mktemp("alone")
    run(folder / "whole", ALONE)
    run_cut(folder / "cut", ALONE)
    return folder


@pytest.fixture(scope="module")
def two(one, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    (one / "cut").rename(folder / "begun")
    launch(folder, function=run_sharding)
    return folder


def weights(folder, rank=0):
    return torch.load(folder / f"weights-{rank}.pt", weights_only=True)


def assert_close(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(
            a[name], b[name], rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_same_numbers(here, there):
    """Compare the rows of one process and of two, but for metrics, which a rounding may move by whole images."""
    for a, b in zip(here, there, strict=True):
        assert list(a) == list(b)
        for key in a:
            if key.startswith("train/") or "loss" in key:
                assert b[key] == pytest.approx(a[key], rel=1e-5), key


def test_the_losses_and_the_weights_are_those_of_one_process(one, two):
    cfg = mtv.Config(**CONFIG).replace(ALONE)
    start = mtv.build_model(cfg, classes=PartlyAnnotated("val").classes).state_dict()
    alone, shared = weights(one / "whole"), [weights(two / "whole", rank) for rank in (0, 1)]
    assert max((alone[name] - start[name]).abs().max() for name in start if start[name].is_floating_point()) > 1e-2
    assert_close(shared[0], alone)
    assert same(*shared)  # each process has all of them at the end
    assert_same_numbers(rows(one / "whole"), rows(two / "whole"))


def test_each_process_holds_a_half_while_it_trains(two):
    halves = [json.loads((two / f"shares-{rank}.json").read_text()) for rank in (0, 1)]
    model = mtv.load_model(two / "whole")
    sizes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    for rank, half in enumerate(halves):
        assert half["models"] == 2  # the average is shared as well
        assert half["plain"] == "MultiTaskModel"
        tasks = ["tasks.seg", "tasks.det", "tasks.tags"]
        assert half["units"] == ["", "backbone", "backbone.net.layer4.0", "neck", *tasks]
        assert {name: whole for name, (whole, _) in half["parameters"].items()} == sizes
        for name, (whole, local) in half["parameters"].items():
            if whole[0] % 2 == 0:
                assert local == [whole[0] // 2, *whole[1:]], (rank, name)
    local = [sum(torch.Size(local).numel() for _, local in half["parameters"].values()) for half in halves]
    assert sum(local) == sum(parameter.numel() for parameter in model.parameters())
    moments = list(zip(*(half["state"] for half in halves), strict=True))
    assert len(moments) == len(sizes) + 1
    assert [pair for pair in moments if pair[0][1] + pair[1][1] != pair[0][0]] == [([3, 3], [3, 3])]  # the balancer's


def test_the_metrics_are_exactly_those_of_one_process(two):
    """Of the averaged weights after the last epoch, and of the trained ones after the run; 7 images are 2 batches."""
    cfg, data = mtv.Config(**CONFIG).replace(ALONE), PartlyAnnotated("val")
    averaged = mtv.load_model(two / "whole", "last")
    last = rows(two / "whole")[-1]
    alone = mtv.Trainer(averaged, cfg, progress=False).evaluate(data)
    assert alone == {key.removeprefix("val/"): last[key] for key in last if key.removeprefix("val/") in alone}
    averaged.load_state_dict(weights(two / "whole"))
    alone = mtv.Trainer(averaged, cfg, progress=False).evaluate(data, protocol=PROTOCOLS)
    assert [json.loads((two / "whole" / f"evaluated-{rank}.json").read_text()) for rank in (0, 1)] == [alone, alone]


def test_a_run_that_is_taken_up_again_is_the_same_bit_for_bit(two):
    for rank in (0, 1):
        assert same(weights(two / "cut", rank), weights(two / "whole", rank))
    for name in CHECKPOINTS:
        cut, whole = (two / run / "checkpoints" / f"{name}.safetensors" for run in ("cut", "whole"))
        assert cut.read_bytes() == whole.read_bytes(), name
    histories = [rows(two / name) for name in ("cut", "whole")]
    for row in (*histories[0], *histories[1]):
        assert row.pop("seconds") > 0
    assert histories[0] == histories[1]


def test_a_sharded_run_goes_on_in_one_process_and_the_reverse(one, two):
    run(two / "left", ALONE)
    for name in ("left", "begun"):
        assert_close(weights(two / name), weights(one / "whole"))
        assert_same_numbers(rows(one / "whole"), rows(two / name))


def test_the_best_checkpoint_loads_alone_and_is_that_of_one_process(one, two):
    assert_close(mtv.load_model(two / "whole").state_dict(), mtv.load_model(one / "whole").state_dict())
    assert not list(two.glob("whole/checkpoints/*/*.distcp"))
    assert sorted(path.name for path in (two / "whole" / "checkpoints").iterdir()) == ["best", "last", "last.previous"]


@pytest.mark.slow
def test_a_process_that_dies_takes_the_run_down_and_the_run_goes_on(two, tmp_path):
    values = [f"{key}={json.dumps(value)}" for key, value in SHARDED.items()]
    stderr = launch(tmp_path / "cut", "die=3", *values, expected=1)
    assert "another process of this training has died, and with it the run" in stderr
    assert f"the same command goes on from the last checkpoint in {tmp_path / 'cut'}" in stderr
    launch(tmp_path / "cut", *values)
    assert same(weights(tmp_path / "cut"), weights(two / "whole"))


def test_one_process_has_nothing_to_share_and_trains_as_ever(caplog):
    with caplog.at_level(logging.INFO):
        alone = fitted(configured(system__sharding="full"))
    assert "system.sharding: a process alone has nothing to share" in caplog.text
    assert same(parameters(alone.model), parameters(fitted(configured()).model))


REFUSED = {
    "precision": ({"system__precision": "fp16"}, "'full' trains in bf16 or fp32: it does not scale losses"),
    "compile": ({"system__compile": True}, "'full' does not train compiled networks; set system.compile to false"),
    "channels_last": ({"system__channels_last": True}, "'full' cuts weights into rows, which channels_last does not"),
    "balancer": ({"training__balancer": "pcgrad"}, "balancer 'pcgrad' needs whole gradients, .* such as uncertainty"),
    "optimizer": ({"training__optimizer": "lamb"}, "optimizer 'lamb' looks at several weights at once, .* adamw, sgd"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_a_sentence_also_for_one_process(name):
    values, sentence = REFUSED[name]
    with pytest.raises(ConfigError, match=f"system.sharding: {sentence}"):
        sharding.is_sharded(configured(system__sharding="full", **values))
    assert not sharding.is_sharded(configured(**values))


def test_all_that_does_not_go_together_is_said_at_once_before_anything_is_trained():
    cfg = configured(system__sharding="full", system__channels_last=True, training__balancer="mgda")
    model, data = built(cfg)
    before = parameters(model)
    with pytest.raises(ConfigError) as caught:
        mtv.Trainer(model, cfg, progress=False).fit(data)
    assert len(caught.value.problems) == 2
    assert same(parameters(model), before)


def test_a_launcher_that_asks_for_sharding_is_told_the_key(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    for choice in ("none", "full"):
        with pytest.raises(TrainingError, match=r"asks for FSDP, but the config decides: set system\.sharding=full"):
            fitted(configured(system__sharding=choice))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion", "adam", "nadamw", "radam", "rmsprop", "adan", "adopt"])
def test_optimizers_of_single_weights_are_taken(name):
    choice = configured(training__optimizer=name).training.optimizer
    assert sharding.acts_weight_by_weight(lambda values: OPTIMIZERS.build(choice, values, 0.01, 0.01))


@pytest.mark.parametrize("name", ["lamb", "lars", "muon", "adafactor", "novograd", "cadamw"])
def test_optimizers_that_look_at_more_are_not(name):
    """Norms, matrices, means over rows, the share of a sign."""
    choice = configured(training__optimizer=name).training.optimizer
    assert not sharding.acts_weight_by_weight(lambda values: OPTIMIZERS.build(choice, values, 0.01, 0.01))


def test_a_parameter_without_a_dimension_is_named():
    model, _ = built(configured())
    model.backbone.temperature = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ConfigError, match=r"parameter 'backbone\.temperature' is a scalar; give it the shape \(1,\)"):
        sharding.shard(model, torch.device("cpu"))


@pytest.mark.parametrize(("result", "fits"), [(0.5, True), (1.0, False)])
def test_a_backend_that_sums_in_place_of_a_mean_is_refused(monkeypatch, result, fits):
    """As gloo did, without a word, in some versions of torch."""
    monkeypatch.setattr("mtvision.training.processes.number", lambda: 2)
    monkeypatch.setattr("mtvision.training.processes.rank", lambda: 0)
    name = "reduce_scatter_single" if hasattr(torch.distributed, "reduce_scatter_single") else "reduce_scatter_tensor"
    monkeypatch.setattr(torch.distributed, name, lambda mean, values, op: mean.fill_(result))
    if fits:
        sharding._check_mean(torch.device("cpu"))
        return
    with pytest.raises(TrainingError, match="cannot average gradients over processes on the device 'cpu'"):
        sharding._check_mean(torch.device("cpu"))


def test_blocks_of_any_backbone_are_shared_by_themselves_the_inner_before_the_outer():
    block = nn.Sequential(nn.Linear(600, 600))  # 360,600 weights; a container itself stays with what is around it
    outer = nn.Module()
    outer.blocks = nn.ModuleList([nn.Linear(600, 600), nn.Linear(6, 6)])
    outer.own = nn.Linear(600, 600)
    backbone = nn.Module()
    backbone.stages = nn.Sequential(block, outer)
    backbone.stem = nn.Linear(600, 600)
    assert sharding._blocks(backbone) == [outer.blocks[0], block[0], outer]
