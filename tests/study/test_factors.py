import pytest

from mtvision import Config
from mtvision.errors import ConfigError
from mtvision.study.planning.factors import level_label, read_factors


def problems(given, base=None):
    with pytest.raises(ConfigError) as caught:
        read_factors(base or Config(), given)
    return caught.value.problems


def test_a_list_of_values_is_a_factor_of_its_key():
    (factor,) = read_factors(Config(), {"training.lr": [0.01, 0.002]})
    assert factor.labels == ("0.01", "0.002")
    assert factor.levels[0].changes == {"training.lr": 0.01}


def test_the_base_level_is_the_base_configs():
    (factor,) = read_factors(Config(), {"training.lr": [0.01, 0.002]})
    assert factor.base == 1


def test_without_the_base_configs_value_the_first_level_is_the_base():
    (factor,) = read_factors(Config(), {"training.lr": [0.01, 0.1]})
    assert factor.base == 0


def test_the_base_level_is_found_whatever_way_its_value_is_written():
    base = Config(training={"seg_loss": {"name": "focal", "gamma": 2.0}})
    (factor,) = read_factors(base, {"training.seg_loss": ["dice", {"gamma": 2.0, "name": "focal"}]})
    assert factor.base == 1


def test_components_with_options_and_sums_have_readable_labels():
    given = {"training.seg_loss": ["dice", {"name": "focal", "gamma": 1.0}, ["cross_entropy", "dice"]]}
    assert read_factors(Config(), given)[0].labels == ("dice", "focal(gamma=1.0)", "cross_entropy+dice")


def test_several_keys_move_as_one_named_level():
    given = {
        "budget": {
            "short": {"system.epochs": 10, "training.lr": 0.01},
            "long": {"system.epochs": 60, "training.lr": 0.002},
        }
    }
    (factor,) = read_factors(Config(), given)
    assert (factor.name, factor.labels, factor.base) == ("budget", ("short", "long"), 1)
    assert factor.levels[0].changes == {"system.epochs": 10, "training.lr": 0.01}


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (None, "null"),
        (True, "true"),
        (1, "1"),
        (0.3, "0.3"),
        ("a", "a"),
        ([8, 9], "8x9"),
        ((0.5, 1), "0.5x1"),
        ({"name": "b"}, "b"),
        (["dice", "focal"], "dice+focal"),
        ([True, False], "true+false"),
        ({"lr": 0.1, "ema": None}, "lr=0.1, ema=null"),
        ({"a": {"b": 1, "c": 2}}, "a=(b=1, c=2)"),
        ({"name": "f", "o": {"b": 1}}, "f(o=(b=1))"),
        ({}, "{}"),
    ],
)
def test_labels(value, label):
    assert level_label(value) == label


def test_wrong_levels_are_told_all_at_once_with_the_nearest_spelling():
    found = problems({"model.activation": ["relu", "gleu"], "training.lrr": [1, 2], "training.lr": [-1.0, 0.1]})
    assert found[0].startswith("factors.model.activation, level 'gleu': model.activation")
    assert "Did you mean 'gelu'?" in found[0]
    assert any("training.lrr" in text and "Did you mean 'lr'?" in text for text in found)
    assert any("level '-1.0': training.lr: must be greater than 0" in text for text in found)


@pytest.mark.parametrize("given", [{}, None, ["relu"]])
def test_no_factor_is_a_sentence(given):
    assert problems(given) == (
        "factors: expected a mapping of dotted config keys to lists of values, with at least one",
    )


def test_one_level_is_no_factor():
    assert problems({"training.lr": [0.1]}) == ("factors.training.lr: a factor needs at least two levels, got 1",)


def test_a_level_twice_is_refused():
    assert "factors.training.lr: level '0.1' is given twice" in problems({"training.lr": [0.1, 0.1, 0.2]})


def test_a_bare_value_is_refused():
    assert problems({"training.lr": 0.1}) == (
        "factors.training.lr: expected a list of values, or a mapping of level names to {dotted key: value}",
    )


def test_two_factors_may_not_change_one_key():
    found = problems({"training.lr": [0.1, 0.2], "mine": {"a": {"training.lr": 1.0}, "b": {"training.lr": 2.0}}})
    assert found == ("factors.mine: 'training.lr' is changed by factor 'training.lr' too",)


def test_seeds_are_no_factor():
    assert any("give the seeds as seeds=[...]" in text for text in problems({"system.seed": [0, 1]}))


RESERVED = (
    "run config seed state score loss best_epoch epochs seconds seconds_per_epoch error parameters multiply_adds n "
    "mean low high runs sentence best configuration selected fresh held_out spread level factor base effect "
    "seg/miou my/lr"
)


@pytest.mark.parametrize("name", RESERVED.split())
def test_a_name_that_the_tables_need_is_refused(name):
    found = problems({name: {"a": {"training.lr": 1.0}, "b": {"training.lr": 2.0}}})
    assert found == (f"factors.{name}: the tables have a column of this name; choose another one",)


@pytest.mark.parametrize(
    ("key", "values", "labels"),
    [
        ("training.lr", [1, 0.1, 1.0], ("1", "1.0")),
        ("data.image_size", [32, [32, 32]], ("32", "32x32")),
    ],
)
def test_two_levels_that_mean_one_config_are_refused(key, values, labels):
    found = problems({key: values})
    assert found == (f"factors.{key}: levels '{labels[0]}' and '{labels[1]}' are the same config",)


def test_named_levels_may_mean_one_config():
    (factor,) = read_factors(Config(), {"mine": {"a": {"training.lr": 1}, "b": {"training.lr": 1.0}}})
    assert factor.labels == ("a", "b")


@pytest.mark.parametrize(
    ("first", "second"),
    [("training", "training.lr"), ("training.lr", "training"), ("data.dataset", "data.dataset.num_images")],
)
def test_two_factors_may_not_change_one_key_and_a_part_of_it(first, second):
    values = {
        "training": [{"lr": 0.1}, {"lr": 0.2}],
        "training.lr": [0.3, 0.4],
        "data.dataset": ["shapes", "voc"],
        "data.dataset.num_images": [8, 16],
    }
    base = Config(data={"dataset": {"name": "shapes", "num_images": 4}})
    found = problems({first: values[first], second: values[second]}, base)
    assert f"factors.{second}: '{second}' is changed by factor '{first}' too" in found


def test_a_key_that_only_begins_alike_is_another_one():
    assert len(read_factors(Config(), {"data.dataset": ["voc", "shapes"], "data.dataset_root": ["a", "b"]})) == 2


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("run_dir", ["a", "b"]),
        ("progress", ["bar", "json"]),
        ("trackers", [[], ["tensorboard"]]),
        ("checkpoint_steps", [5, 10]),
    ],
)
def test_where_a_run_goes_is_no_factor(name, values):
    end = f"'system.{name}' says where a run goes, not what it computes"
    assert f"factors.system.{name}: {end}" in problems({f"system.{name}": values})
    assert f"factors.system: {end}" in problems({"system": [{name: value} for value in values]})
    named = {"a": {f"system.{name}": values[0], "training.lr": 0.1}, "b": {"training.lr": 0.2}}
    assert f"factors.mine: {end}" in problems({"mine": named})
