"""The batches of each epoch, some of which the workers read while the epoch before is scored."""

import pytest
import torch
from small_runs import configured, fitted

import mtvision as mtv
from mtvision.data.loading.loader import Loader
from mtvision.training import fit
from mtvision.training.training_batches import TrainingBatches


def loader_of(num_workers, **values):
    cfg = configured(data__num_workers=num_workers, data__augmentation_level="heavy", **values)
    return mtv.build_loader(cfg, mtv.build_dataset(cfg, "train"), training=True)


def pixels(batches):
    return [(batch.image_ids, batch.images.clone()) for batch in batches]


def same(a, b):
    return [ids for ids, _ in a] == [ids for ids, _ in b] and all(
        torch.equal(x, y) for (_, x), (_, y) in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_was_prepared_is_the_epoch(num_workers):
    plain, ahead = TrainingBatches(loader_of(0)), TrainingBatches(loader_of(num_workers))
    expected = [pixels(plain.of_epoch(epoch)) for epoch in range(3)]
    assert not same(expected[0], expected[1])
    for epoch in range(3):
        found = pixels(ahead.of_epoch(epoch))
        ahead.prepare(epoch + 1)
        assert same(found, expected[epoch])
    assert same(pixels(ahead.of_epoch(1, start=2)), expected[1][2:])  # another one than was prepared
    ahead.prepare(2)
    assert same(pixels(ahead.of_epoch(2, start=1)), expected[2][1:])
    assert same(pixels(ahead.of_epoch(2)), expected[2])


def test_only_a_loader_with_workers_is_asked_ahead(monkeypatch):
    asked, original = [], Loader.set_epoch
    monkeypatch.setattr(Loader, "set_epoch", lambda self, *place: asked.append(place) or original(self, *place))
    for num_workers, expected in ((0, []), (1, [(4, 0)])):
        TrainingBatches(loader_of(num_workers)).prepare(4)
        assert asked == expected
    foreign = TrainingBatches([])
    foreign.prepare(1)
    assert list(foreign.of_epoch(1)) == []


def test_the_next_epoch_begins_while_this_one_is_scored(monkeypatch, without_curves):
    order, score, prepare = [], fit.score, TrainingBatches.prepare
    monkeypatch.setattr(fit, "score", lambda *given, **named: order.append("scored") or score(*given, **named))
    monkeypatch.setattr(
        TrainingBatches, "prepare", lambda self, epoch: order.append(f"prepared {epoch}") or prepare(self, epoch)
    )
    fitted(configured(system__epochs=3), validate=True)
    assert order == ["prepared 1", "scored", "prepared 2", "scored", "scored"]


def test_what_a_sampler_cannot_do_yet_is_told_when_its_epoch_begins(without_curves):
    """The epoch before is scored and kept."""

    @mtv.SAMPLERS.register("once")
    def once(dataset, batch_size):
        """The first epoch only."""

        class Once:
            def order(self, seed, epoch):
                return range(len(dataset)) if epoch == 0 else []

        return Once()

    histories = []

    class Kept(mtv.Callback):
        def on_epoch_end(self, trainer, row):
            histories.append(row["epoch"])

    with pytest.raises(mtv.DataError, match=r"data\.sampler: order\(\) must return 12 indices"):
        fitted(configured(system__epochs=2, data__sampler="once", data__num_workers=1), Kept(), validate=True)
    assert histories == [1]
