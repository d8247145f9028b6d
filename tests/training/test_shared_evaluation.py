"""An evaluation that several processes share returns in each what one process returns that scores all images."""

import pytest
import torch
from several_processes import launch, score_together

from mtvision.errors import DataError
from mtvision.training import processes
from mtvision.training.shared_evaluation import gather_predictions


def same(a, b):
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b or (a != a and b != b)


def test_two_processes_without_a_training_before_return_what_one_does(tmp_path):
    """7 images in batches of 2: two batches each."""
    launch(tmp_path, function=score_together)
    found = [torch.load(tmp_path / f"scored-{rank}.pt") for rank in (0, 1)]
    score_together(tmp_path)
    alone = torch.load(tmp_path / "scored-0.pt")
    assert not alone.pop("shared")
    images = alone.pop("own")
    assert [len(each["own"]) for each in found] == [4, 3]
    assert found[0].pop("own") + found[1].pop("own") == images
    for each in found:
        assert each.pop("shared")
        assert same(each, alone)


def test_an_image_that_two_processes_have_is_a_sentence(monkeypatch):
    monkeypatch.setattr(processes, "gather", lambda own: [own, own])
    with pytest.raises(DataError, match="the image id 'a' occurs twice"):
        gather_predictions({"a": {}})
