"""Whether an exported file says what the model says."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtvision.errors import MtvisionError
from mtvision.exporting.network import DECODED, NamedNetwork
from mtvision.exporting.onnx_file import Run


def largest_difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """Return the largest difference of tensors by name, relative to the largest value of each and to 1 at least.

    So it is a difference of logits and scores, and for boxes one in lengths of the image.

    Example:
        >>> boxes, moved = torch.tensor([[0.0, 0.0, 64.0, 64.0]]), torch.tensor([[0.0, 0.0, 64.0, 63.0]])
        >>> largest_difference({"boxes": boxes}, {"boxes": moved})
        0.015625
    """
    worst = 0.0
    for name, each in expected.items():
        if each.shape != found[name].shape:
            return float("inf")
        if each.numel():
            difference = (found[name].double() - each.double()).abs().max() / each.double().abs().max().clamp(min=1)
            worst = max(worst, float(difference.nan_to_num(nan=float("inf"))))
    return worst


def check_against_eager(network: NamedNetwork, run: Run, batches: Sequence[Tensor], tolerance: float) -> float:
    """Return by how much what a file says of some images differs from what the model says.

    What a formula gives may differ by the tolerance. What is chosen by it (classes of pixels, detections) must then be
    what the model's own postprocessing chooses from the file's own numbers: two scores or logits that are almost
    equal may change places by a rounding of the network.

    Args:
        network: the model, called eagerly.
        run: the file; where it also gives the values of `DECODED` names, they are what is chosen from.
        batches: images.
        tolerance: see `largest_difference`.

    Raises:
        MtvisionError: if they differ by more.
    """
    worst = 0.0
    for images in batches:
        with torch.no_grad():
            expected, found = network(images), run(images)
        shape = " x ".join(map(str, images.shape))
        chosen = _chosen(network)
        formula = {name: each for name, each in expected.items() if name in found and name not in chosen}
        # a program of torch.export gives only what is chosen: then that is compared
        difference = largest_difference(formula or {name: expected[name] for name in chosen}, found)
        if not difference <= tolerance:
            raise MtvisionError(
                f"the exported file differs from the model by {difference:.2g} on random images {shape}, more than the "
                f"tolerance of {tolerance:g}; nothing was written"
            )
        for task in network.parts if chosen and formula else ():
            if not _agrees(network, task, {**expected, **found}):
                raise MtvisionError(
                    f"the exported file chooses other predictions of task '{task}' than the model from the same "
                    f"numbers, on random images {shape}; nothing was written"
                )
        worst = max(worst, difference)
    return worst


def _chosen(network: NamedNetwork) -> frozenset[str]:
    """Return the names of what is chosen, not computed by a formula."""
    return frozenset(network.output_names) if network.postprocess == "inside" else frozenset()


def _agrees(network: NamedNetwork, task: str, tensors: Mapping[str, Tensor]) -> bool:
    between, own = f"{DECODED}{task}_", f"{task}_"
    decoded = {key.removeprefix(between): tensors[key] for key in network.tensors_of[task] if key.startswith(between)}
    predicted = {key.removeprefix(own): tensors[key] for key in network.outputs_of(task)}
    return network.parts[task].agrees(decoded, predicted)
