import json

import pytest
import yaml
from small_study import BASE, FACTORS, content

from mtvision import Config
from mtvision.errors import ConfigError
from mtvision.registry import Component
from mtvision.study.planning.definition import Definition, load_definition, read_definition
from mtvision.study.planning.runs import config_of, digest, planned_runs


def problems(**values):
    with pytest.raises(ConfigError) as caught:
        read_definition(content(**values))
    return caught.value.problems


def test_the_dump_makes_an_equal_definition():
    factors = {
        **FACTORS,
        "training.seg_loss": ["cross_entropy", {"name": "focal", "gamma": 1.0}, ["cross_entropy", "dice"]],
        "length": {"short": {"system.epochs": 1}, "long": {"system.epochs": 3}},
    }
    definition = read_definition(
        content(
            factors=factors,
            design={"name": "fractional", "runs": 12},
            seeds=[3, 5],
            objective="seg/miou",
            budget={"hours": 2.5},
        )
    )
    again = read_definition(json.loads(json.dumps(definition.dump())))
    assert isinstance(again, Definition)
    assert again == definition
    assert again.design == Component("fractional", {"runs": 12})


def test_everything_but_the_factors_has_a_default():
    definition = read_definition({"factors": FACTORS, "base": BASE})
    assert (definition.seeds, definition.objective, definition.design.name) == ((3,), "score", "one_at_a_time")


def test_it_is_read_from_yaml_with_its_base_beside_it(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"base": "base.yaml", "factors": FACTORS, "seeds": [1, 2]}))
    definition = load_definition(tmp_path / "study.yaml")
    assert definition.base == Config(**BASE)
    assert definition.seeds == (1, 2)


def test_problems_of_a_file_name_it(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"factor": FACTORS, "seeds": []}))
    with pytest.raises(ConfigError) as caught:
        load_definition(path)
    assert str(path) in str(caught.value)
    assert "factor: unknown key. Did you mean 'factors'?" in caught.value.problems
    assert "seeds: an empty list; give at least one seed" in caught.value.problems


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"seeds": [1, 1]}, "seeds: 1 is given twice; a run counts once"),
        ({"seeds": [-1]}, "seeds.0: must be at least 0, got -1"),
        ({"design": "fractionl"}, "design: unknown design 'fractionl'. Did you mean 'fractional'?"),
        ({"design": {"name": "fractional", "run": 9}}, "Did you mean 'runs'?"),
        ({"budget": {"hour": 1}}, "budget.hour: unknown key. Did you mean 'hours'?"),
        ({"budget": 0}, "budget.runs: must be at least 1, got 0"),
        ({"base": {"training": {"lrr": 1}}}, "base.training.lrr: unknown key. Did you mean 'lr'?"),
        ({"base": {"training": {"batch_size": "auto"}}}, "base.training.batch_size: 'auto' may choose another size"),
    ],
)
def test_what_is_wrong_is_a_sentence(values, sentence):
    assert any(sentence in problem for problem in problems(**values)), problems(**values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"factors": {"training.seg_loss": ["focal", "dice"]}, "objective": "loss"}, "'loss' is another quantity"),
        ({"factors": {"model.detection_head": ["fpn", None]}}, "'score' is of other tasks at each level of model.det"),
    ],
)
def test_an_objective_that_means_something_else_at_each_level_is_refused(values, sentence):
    assert any(sentence in problem for problem in problems(**values))
    read_definition(content(**{**values, "objective": "seg/miou"}))


def test_own_parts_stand_beside_the_file_that_names_them(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"factors": FACTORS, "imports": ["mine.py", "a.module"]}))
    assert load_definition(tmp_path / "study.yaml").imports == (str(tmp_path / "mine.py"), "a.module")


def test_all_problems_come_at_once():
    found = problems(seeds=[], design="none", factors={"training.lr": [1]}, base={"model": {"backbon": "x"}})
    assert len(found) >= 3


class TestRuns:
    def test_all_combinations_of_one_seed_come_first(self):
        runs = planned_runs(read_definition(content(design="full_factorial", seeds=[7, 8])))
        assert [run.seed for run in runs] == [7] * 4 + [8] * 4
        assert [run.levels for run in runs[:4]] == [run.levels for run in runs[4:]]

    def test_a_run_has_the_values_of_its_levels_and_its_seed(self):
        definition = read_definition(content())
        config = config_of(definition, {"model.activation": "gelu", "training.lr": "0.1"}, 9)
        assert config == definition.base.replace({"model.activation": "gelu", "training.lr": 0.1, "system.seed": 9})

    def test_the_budget_of_runs_is_kept(self):
        with pytest.raises(ConfigError, match=r"8 runs \(4 configurations x 2 seeds\), 7 are allowed"):
            planned_runs(read_definition(content(design="full_factorial", seeds=[0, 1], budget=7)))

    def test_levels_that_contradict_each_other_are_named_with_the_run(self):
        factors = {"model.segmentation_head": ["fcn", None], "model.auxiliary_heads": [[], ["fcn"]]}
        with pytest.raises(ConfigError, match=r"model\.segmentation_head=null, model\.auxiliary_heads=fcn: model"):
            planned_runs(read_definition(content(factors=factors, design="full_factorial", objective="det/map50")))

    def test_equal_configs_are_one_run(self):
        factors = {"mine": {"a": {"training.lr": 0.01}, "b": {"training.lr": 0.01}, "c": {"training.lr": 0.1}}}
        runs = planned_runs(read_definition(content(factors=factors)))
        assert [run.same for run in runs] == [({"mine": "b"},), ()]

    def test_the_digest_leaves_out_where_a_run_goes(self):
        definition = read_definition(content())
        config = definition.base
        same = config.replace({"system.run_dir": "/x", "system.progress": "json", "data.num_workers": 3})
        assert digest(config, ()) == digest(same, ())
        assert digest(config, ()) != digest(config.replace({"training.lr": 0.5}), ())
        assert digest(config, ()) != digest(config.replace({"system.seed": 99}), ())

    def test_what_a_factor_changes_is_in_the_digest(self):
        factors = {"data.num_workers": [0, 1]}
        assert len(planned_runs(read_definition(content(factors=factors)))) == 2
