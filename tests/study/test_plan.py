import pytest
from small_study import BASE, content

from mtvision import Config
from mtvision.study.planning.definition import read_definition
from mtvision.study.planning.plan import labels_of, make_plan
from mtvision.study.planning.probe import Probe, probe


def plan(given_probe=None, **values):
    return make_plan(read_definition(content(**values)), given_probe)


def test_the_table_has_a_row_a_run():
    made = plan(seeds=[0, 1])
    assert list(made.table.columns) == ["run", "seed", "model.activation", "training.lr"]
    assert made.table[["seed", "model.activation", "training.lr"]].to_numpy().tolist() == [
        [seed, *levels] for seed in (0, 1) for levels in (("relu", "0.01"), ("gelu", "0.01"), ("relu", "0.1"))
    ]


def test_balance_and_empty_cells_are_told():
    made = plan()
    counts = {(row.factor, row.level): row.n for row in made.aliasing.balance.itertuples()}
    assert counts == {
        ("model.activation", "relu"): 2,
        ("model.activation", "gelu"): 1,
        ("training.lr", "0.01"): 2,
        ("training.lr", "0.1"): 1,
    }
    (cell,) = made.aliasing.empty_cells.itertuples(index=False)
    assert set(cell) == {"model.activation", "gelu", "training.lr", "0.1"}
    assert "model.activation: relu 2, gelu 1" in str(made)


def test_factors_that_always_change_together_are_named_before_anything_runs():
    rows = [{}, {"model.activation": "gelu", "training.lr": 0.1}]
    made = plan(design={"name": "runs", "rows": rows})
    assert made.aliasing.factor_sets == (("model.activation", "training.lr"),)
    assert any("always" in text and "training.lr" in text for text in made.sentences)


def test_a_search_has_a_number_but_no_runs_in_advance():
    made = plan(design={"name": "tpe", "runs": 9}, budget=7, seeds=[0, 1, 2])
    assert (made.num_runs, made.runs, made.aliasing) == (7, (), None)
    assert "model.activation: relu, gelu" in str(made)


def test_the_cost_is_the_probe_times_the_runs():
    made = plan(Probe(seconds_per_epoch=30.0, epochs=2, measured=5.0), seeds=[0, 1])
    assert made.seconds == 360.0
    assert (
        "a run of the base config takes about 60 s on this machine (measured in 5 s), all 6 about 6 min one after "
        "the other"
    ) in made.sentences


def test_a_budget_that_will_not_suffice_is_told():
    made = plan(Probe(seconds_per_epoch=3600.0, epochs=2, measured=5.0), budget={"hours": 3})
    assert any("the budget of 3 h will not suffice" in text for text in made.sentences)
    enough = plan(Probe(seconds_per_epoch=3600.0, epochs=2, measured=5.0), budget={"hours": 7})
    assert not any("will not suffice" in text for text in enough.sentences)


def test_the_base_level_stands_first():
    definition = read_definition(content(factors={"training.lr": [0.1, 0.01, 0.001]}))
    assert labels_of(definition) == {"training.lr": ("0.01", "0.1", "0.001")}


def test_the_probe_measures_and_scales_to_the_whole_data(monkeypatch):
    """With twice the images a run costs about twice: the probe sees as many images in both cases."""
    seen = []
    from mtvision.study.planning import probe as module

    real = module.Trainer.fit

    def counted(self, train, *rest):
        seen.append(len(train))
        return real(self, train, *rest)

    monkeypatch.setattr(module.Trainer, "fit", counted)
    config = Config(**BASE).replace({"system.epochs": 10, "data.dataset.num_images": 400})
    measured = probe(config)
    assert seen == [8]  # two batches
    assert measured.epochs == 10
    assert measured.seconds == pytest.approx(10 * measured.seconds_per_epoch)
    assert measured.seconds > measured.measured, "400 images and 10 epochs take longer than 8 images and 3"
