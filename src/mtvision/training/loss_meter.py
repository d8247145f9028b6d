"""Losses by name: their sums, and their means over batches."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtvision.training import processes


class LossMeter:
    """Running means of named losses, weighted by the number of images."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weight: float = 0

    def update(self, losses: Mapping[str, Tensor], num_images: int) -> None:
        """Add the losses of one batch."""
        for name, value in losses.items():
            addition = (
                value.detach().double() * num_images if value.device.type != "mps" else value.detach() * num_images
            )
            before = self._sums.get(name)
            self._sums[name] = addition if before is None else before.to(addition.device) + addition
        self._weight += num_images

    def means(self) -> dict[str, float]:
        """Return the means so far, empty before the first batch."""
        return {name: float(total / self._weight) for name, total in self._sums.items()}

    def means_over_processes(self, device: torch.device) -> dict[str, float]:
        """Return the means over the processes, each of which had its part of every batch; all of them must ask.

        Args:
            device: where the processes can talk to each other.
        """
        weighed = {name: (total / self._weight).to(device) for name, total in self._sums.items()}
        return {name: float(value) for name, value in processes.means(weighed).items()}

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs: the sums, exactly."""
        return {"sums": {name: total.cpu() for name, total in self._sums.items()}, "weight": self._weight}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._sums, self._weight = dict(state["sums"]), state["weight"]

    @staticmethod
    def shared_state(states: Sequence[Mapping[str, Any]], number: int) -> dict[str, Any]:
        """Return what each of another number of processes goes on from: an equal part of what all had summed up."""
        sums = {name: sum(state["sums"][name] for state in states) / number for name in states[0]["sums"]}
        return {"sums": sums, "weight": sum(state["weight"] for state in states) / number}


def weighted_sum(losses: Mapping[str, Mapping[str, Tensor]], weights: Mapping[str, float]) -> Tensor:
    """Return the sum of all parts of all tasks, each task times its weight (1 where none is given)."""
    terms = [weights.get(task, 1.0) * part for task, parts in losses.items() for part in parts.values()]
    return torch.stack(terms).sum()


def flatten(losses: Mapping[str, Mapping[str, Tensor]], total: Tensor) -> dict[str, Tensor]:
    """Return ``{"loss": total, "<task>/<part>": ...}``."""
    named = {f"{task}/{part}": value for task, parts in losses.items() for part, value in parts.items()}
    return {"loss": total, **named}
