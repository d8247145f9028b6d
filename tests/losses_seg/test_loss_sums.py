"""Sums of losses: what a config may say, and what is computed."""

import jsonschema
import pytest
import torch
import yaml
from loss_inputs import example
from pydantic import BaseModel, ConfigDict

import mtvision as mtv
from mtvision.config_fields import Term
from mtvision.errors import ConfigError
from mtvision.losses.segmentation import CrossEntropy, Dice, Focal
from mtvision.registries import SEGMENTATION_LOSSES
from mtvision.registry import Component


def config(seg_loss):
    return mtv.Config(training={"seg_loss": seg_loss})


def problems(seg_loss):
    with pytest.raises(ConfigError) as caught:
        config(seg_loss)
    return list(caught.value.problems)


def build(seg_loss):
    return SEGMENTATION_LOSSES.build(config(seg_loss).training.seg_loss)


def test_it_is_the_weighted_sum_of_its_terms():
    logits, mask = example()
    loss = build([{"name": "cross_entropy", "label_smoothing": 0.1}, {"name": "dice", "weight": 0.5}])
    first, second = CrossEntropy(label_smoothing=0.1)(logits, mask), 0.5 * Dice()(logits, mask)
    torch.testing.assert_close(loss(logits, mask), first + second)
    parts = loss.parts(logits, mask)
    assert list(parts) == ["cross_entropy", "dice"]
    torch.testing.assert_close(parts["cross_entropy"], first)
    torch.testing.assert_close(parts["dice"], second)


def test_names_that_occur_again_are_numbered():
    logits, mask = example()
    loss = build(["focal", "dice", {"name": "focal", "gamma": 0.5}, "focal"])
    parts = loss.parts(logits, mask)
    assert list(parts) == ["focal", "dice", "focal_2", "focal_3"]
    torch.testing.assert_close(parts["focal_2"], Focal(gamma=0.5)(logits, mask))
    torch.testing.assert_close(parts["focal"], parts["focal_3"])


def test_functions_are_terms_too_and_buffers_move_with_the_sum():
    @SEGMENTATION_LOSSES.register("half")
    def half():
        """Half of the first logit."""
        return lambda logits, mask: logits[:, 0].mean() / 2

    loss = build([{"name": "cross_entropy", "class_weights": [1.0, 2.0, 3.0, 4.0, 5.0]}, {"name": "half", "weight": 4}])
    logits, mask = example()
    torch.testing.assert_close(loss.parts(logits, mask)["half"], 2 * logits[:, 0].mean())
    assert loss.to("meta").losses[0].class_weights.device.type == "meta"


def test_a_term_that_is_no_scalar_is_still_found():
    SEGMENTATION_LOSSES.register("pixels")(lambda: lambda logits, mask: logits.mean(dim=1))
    with pytest.raises(ConfigError, match="a segmentation loss must return a scalar"):
        mtv.build_model({"model": {"backbone": "test_resnet"}, "training": {"seg_loss": ["dice", "pixels"]}})


@pytest.mark.parametrize(
    ("written", "dumped"),
    [
        (["dice"], ["dice"]),
        (["dice", {"name": "focal"}], ["dice", "focal"]),
        ([{"name": "dice", "weight": 1}], ["dice"]),
        (
            [{"name": "cross_entropy"}, {"name": "dice", "weight": 0.5}],
            ["cross_entropy", {"name": "dice", "weight": 0.5}],
        ),
        (
            ({"weight": 2, "gamma": 1, "name": "focal"}, {"name": "cross_entropy", "class_weights": "balanced"}),
            [{"name": "focal", "weight": 2.0, "gamma": 1.0}, {"name": "cross_entropy", "class_weights": "balanced"}],
        ),
        (
            {"name": "sum", "terms": ["dice", {"name": "focal", "weight": 3.0}]},
            ["dice", {"name": "focal", "weight": 3.0}],
        ),
        ([{"name": "sum", "terms": ["dice"]}, "ohem"], [{"name": "sum", "terms": ["dice"]}, "ohem"]),
        ("dice", "dice"),
        ({"name": "tversky", "gamma": 0.75}, {"name": "tversky", "gamma": 0.75}),
    ],
)
def test_what_is_dumped_is_read_back_equal(written, dumped, tmp_path):
    cfg = config(written)
    assert cfg.dump()["training"]["seg_loss"] == dumped
    assert mtv.Config(**cfg.dump()) == cfg
    cfg.save(tmp_path / "run.yaml")
    assert mtv.Config.load(tmp_path / "run.yaml") == cfg
    assert cfg.replace({"training.lr": 0.1}).training.seg_loss == cfg.training.seg_loss
    assert config(cfg.training.seg_loss) == cfg


def test_a_list_is_the_component_sum():
    terms = [Term(Component("dice")), Term(Component("focal", {"gamma": 1.0}), 0.5)]
    cfg = config(["dice", {"name": "focal", "gamma": 1, "weight": 0.5}])
    assert cfg.training.seg_loss == Component("sum", {"terms": terms})
    assert [str(term) for term in terms] == ["dice", "0.5 * focal(gamma=1.0)"]


@pytest.mark.parametrize(
    ("written", "sentences"),
    [
        ([], ["training.seg_loss: an empty list; a sum needs at least one term"]),
        (
            {"name": "sum", "terms": []},
            ["training.seg_loss.terms: an empty list; a sum needs at least one term"],
        ),
        (
            ["cross_entropy", {"name": "focal", "gama": 2}],
            ["training.seg_loss.1.gama: loss 'focal' has no option 'gama'. Did you mean 'gamma'?"],
        ),
        (
            [
                {"name": "tversky", "gama": 2},
                {"name": "focal", "gamma": -1, "weight": 0},
                "dise",
                {"weight": 2},
                "dice",
            ],
            [
                "training.seg_loss.0.gama: loss 'tversky' has no option 'gama'. Did you mean 'gamma'?",
                "training.seg_loss.1.weight: must be greater than 0, got 0",
                "training.seg_loss.1.gamma: must be at least 0, got -1",
                "training.seg_loss.2: unknown loss 'dise'. Did you mean 'dice'? Available: "
                + ", ".join(SEGMENTATION_LOSSES.names()),
                "training.seg_loss.3: must be the name of a loss or a mapping with 'name' and its options, got "
                "{'weight': 2}",
            ],
        ),
        (
            [["dice"]],
            ["training.seg_loss.0: must be the name of a loss or a mapping with 'name' and its options, got ['dice']"],
        ),
        ([{"name": "dice", "weight": -0.5}], ["training.seg_loss.0.weight: must be greater than 0, got -0.5"]),
        ([{"name": "dice", "weight": "much"}], ["training.seg_loss.0.weight: must be a number, got 'much'"]),
        ([{"name": "dice", "weight": float("inf")}], ["training.seg_loss.0.weight: must be a finite number, got inf"]),
        (
            {"name": "sum", "terms": ["dice", {"name": "focal", "gama": 2}]},
            ["training.seg_loss.terms.1.gama: loss 'focal' has no option 'gama'. Did you mean 'gamma'?"],
        ),
        ("sum", ["training.seg_loss.terms: is needed"]),
        (
            {"name": "dice", "weight": 2},
            [
                "training.seg_loss.weight: loss 'dice' has no option 'weight'. Its options: smooth, log_loss, "
                "include_background"
            ],
        ),
        (3, ["training.seg_loss: must be the name of a loss or a mapping with 'name' and its options, got 3"]),
    ],
)
def test_every_problem_is_a_sentence_with_its_path(written, sentences):
    assert problems(written) == sentences


def test_problems_of_a_sum_are_reported_with_all_others():
    with pytest.raises(ConfigError) as caught:
        mtv.Config(training={"lr": -1, "seg_loss": ["dice", "fokal"]}, model={"dropout_rate": 2.0})
    assert [text.partition(":")[0] for text in caught.value.problems] == [
        "model.dropout_rate",
        "training.lr",
        "training.seg_loss.1",
    ]


def test_overrides_reach_the_options_of_a_single_loss_and_replace_a_sum(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"training": {"seg_loss": "focal"}}))
    cfg = mtv.Config.load(path, overrides=["training.seg_loss.gamma=1"])
    assert cfg.training.seg_loss == Component("focal", {"gamma": 1.0})
    cfg = mtv.Config.load(path, overrides=["training.seg_loss=[focal, {name: dice, weight: 0.5}]"])
    assert cfg.dump()["training"]["seg_loss"] == ["focal", {"name": "dice", "weight": 0.5}]
    assert cfg.replace({"training.seg_loss": "dice"}).training.seg_loss == Component("dice")


def test_the_schema_shows_the_three_spellings():
    schema = mtv.Config.model_json_schema()
    one = {"name": "focal", "gamma": 1.0}
    for given in ("dice", one, ["cross_entropy", {"name": "dice", "weight": 0.5}, one]):
        jsonschema.validate({"training": {"seg_loss": given}}, schema)
    for given in ("dyce", {"name": "focal", "gama": 1.0}, {"gamma": 1.0}, ["dyce"], [], 3):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"training": {"seg_loss": given}}, schema)


def test_a_model_with_a_sum_trains_a_step():
    cfg = mtv.Config(
        model={"backbone": "test_resnet", "detection_head": None},
        training={
            "seg_loss": ["cross_entropy", {"name": "lovasz", "weight": 0.5}, {"name": "boundary", "weight": 0.1}]
        },
    )
    model = mtv.build_model(cfg)
    mask = torch.randint(0, 21, (2, 64, 64))
    parts = model.loss(model(torch.rand(2, 3, 64, 64)), {"seg": mask})["seg"]
    sum(parts.values()).backward()
    assert all(parameter.grad is not None for parameter in model.tasks["seg"].parameters())


def test_another_registry_can_have_sums():
    """The field type knows nothing of segmentation."""
    from typing import Annotated

    from mtvision.config_fields import InSum, TermOf
    from mtvision.registry import Registry

    roles = Registry("role")
    roles.register("plain")(lambda: 1)

    @roles.register("sum")
    def total(*, terms: list[Annotated[Term, TermOf(roles)]]):
        return sum(term.weight * roles.build(term.component) for term in terms)

    class Section(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        role: Annotated[Component, InSum(roles)]

    assert roles.build(Section(role=["plain", {"name": "plain", "weight": 2}]).role) == 3
