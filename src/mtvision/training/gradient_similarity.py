"""Whether tasks pull their shared layers in the same direction: cosine similarity of their gradients.

A cosine below 0 is a conflict in the sense of PCGrad (Yu et al. 2020, arXiv 2001.06782): a small step that helps one
task harms the other. Du et al. 2018 (arXiv 1812.02224) take it as the sign of whether an auxiliary task helps.
"""

import copy
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, islice
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from mtvision.errors import ConfigError
from mtvision.model import MultiTaskModel
from mtvision.types import Batch

logger = logging.getLogger(__name__)

Similarities: TypeAlias = dict[str, dict[str, list[float]]]
"""Cosines, one a batch, by pair of tasks (``"seg and det"``) and layer group, from the image to the tasks."""

ALL = "all shared"
"""The group of all layers that both tasks of a pair reach."""

_LOOKED_AT = 8  # times as many batches as are wanted: a rare annotation is found, none at all costs no whole epoch
_WRAPPERS = re.compile(r"(?:(?:net|model)\.)*")
_STAGE = re.compile(r"((?:features_)?(?:layer|stage|block|level|denseblock|transition|feature|s)s?[._]?\d+)\.")


class _Gradients(NamedTuple):
    """Inner products of the tasks' gradients ``(P, T, T)``, parameter by parameter, and who reaches which ``(P, T)``.

    P is the number of parameters, T that of tasks.
    """

    products: Tensor
    reached: Tensor


def gradient_similarity(
    model: MultiTaskModel, batches: Iterable[Batch], *, num_batches: int = 8, seed: int = 0
) -> Similarities:
    """Return the cosine similarity of each pair of tasks' gradients on what they share, by layer group.

    Each task's gradient is that of the plain sum of its losses; weights between tasks do not change a cosine. All
    gradients of a batch come from one forward pass, in training mode, of a copy: weights, running statistics, mode
    and the global random generators are left as they were found. A batch counts for a pair of tasks if both have a
    gradient, so not if nobody looked for one of them in any of its images.

    Args:
        model: with at least two tasks.
        batches: of a loader with ``training=True``; at most ``8 * num_batches`` are looked at.
        num_batches: that shall count for each pair; fewer are logged.
        seed: of dropout.

    Returns:
        By pair and group: ``stem`` and the stages of the backbone, ``neck`` where both tasks stand behind it, and
        `ALL`. A group that only one of the two reaches is left out.

    Raises:
        ConfigError: if the model has fewer than two tasks.
    """
    tasks = list(model.tasks)
    if len(tasks) < 2:
        raise ConfigError([f"gradient similarity compares tasks, and the model has only one: '{tasks[0]}'"])
    trained = copy.deepcopy(model).train()
    groups = _shared_groups(trained)
    parameters = [trained.get_parameter(name) for name in groups]
    found: Similarities = {_title(pair): {} for pair in combinations(tasks, 2)}
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(seed)
        for batch in islice(batches, _LOOKED_AT * num_batches if parameters else 0):
            gradients = _gradients(trained, parameters, batch)
            _add(found, tasks, _by_group(gradients, list(groups.values())), num_batches)
            if all(_count(values) >= num_batches for values in found.values()):
                break
    for pair, values in found.items():
        if _count(values) < num_batches:
            logger.warning("gradient similarity of %s: only %d batches have both", pair, _count(values))
    return found


def layer_groups(names: Sequence[str]) -> dict[str, str]:
    """Return the layer group of each parameter of a backbone, by its name.

    A stage is a first component with a number, as timm calls them (``layer1``, ``stages_0``, ``s1``), or a plural and
    the number behind it (``blocks.0``). What stands before the first stage is the ``stem``; what is neither goes by
    its first component.

    Args:
        names: in the order of the network.

    Example:
        >>> layer_groups(["net.conv1.weight", "net.layer1.0.conv1.weight", "net.norm.weight"])
        {'net.conv1.weight': 'stem', 'net.layer1.0.conv1.weight': 'layer1', 'net.norm.weight': 'norm'}
    """
    bare = {name: _WRAPPERS.sub("", name, count=1) for name in names}
    stages = {name: match[1] for name, text in bare.items() if (match := _STAGE.match(text)) is not None}
    first = next((place for place, name in enumerate(names) if name in stages), 0)
    return {
        name: "stem" if place < first else stages.get(name, text.partition(".")[0])
        for place, (name, text) in enumerate(bare.items())
    }


def _shared_groups(model: MultiTaskModel) -> dict[str, str]:
    """Return the group of each parameter of backbone and neck that is trained, by its name in the model."""
    of_backbone = layer_groups([name for name, _ in model.backbone.named_parameters()])
    groups = {f"backbone.{name}": group for name, group in of_backbone.items()}
    if model.neck is not None:
        groups |= {f"neck.{name}": "neck" for name, _ in model.neck.named_parameters()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name: group for name, group in groups.items() if name in trained}


def _gradients(model: MultiTaskModel, parameters: Sequence[Tensor], batch: Batch) -> _Gradients:
    batch = batch.to(model.normalization.mean.device)
    losses = model.loss(model(batch.images), batch.targets)
    totals = [torch.stack(list(parts.values())).sum() for parts in losses.values()]
    by_task = [torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True) for total in totals]
    products, reached = [], []
    for parameter, gradients in zip(parameters, zip(*by_task, strict=True), strict=True):
        rows = torch.stack([torch.zeros_like(parameter) if g is None else g for g in gradients]).flatten(1).float()
        products.append(rows @ rows.T)
        reached.append([gradient is not None for gradient in gradients])
    return _Gradients(torch.stack(products).cpu().double(), torch.tensor(reached))


def _by_group(gradients: _Gradients, groups: Sequence[str]) -> dict[str, dict[tuple[int, int], float]]:
    """Return the cosine of each pair of tasks in each group; NaN where one of the two has no gradient there."""
    names = dict.fromkeys(groups)
    members = {name: torch.tensor([group == name for group in groups]) for name in names}
    members[ALL] = torch.ones(len(groups), dtype=torch.bool)
    pairs = list(combinations(range(gradients.reached.shape[1]), 2))
    return {name: {pair: _cosine(gradients, rows, pair) for pair in pairs} for name, rows in members.items()}


def _cosine(gradients: _Gradients, rows: Tensor, pair: tuple[int, int]) -> float:
    first, second = pair
    both = rows & gradients.reached[:, first] & gradients.reached[:, second]
    products = gradients.products[both].sum(dim=0)  # (T, T)
    length = math.sqrt(products[first, first] * products[second, second])
    return float((products[first, second] / length).clamp(-1, 1)) if length > 0 else math.nan


def _add(
    found: Similarities, tasks: Sequence[str], cosines: Mapping[str, Mapping[tuple[int, int], float]], limit: int
) -> None:
    """Add the cosines of a batch to the pairs that have a gradient of both tasks and not enough batches yet."""
    for first, second in combinations(range(len(tasks)), 2):
        values = found[_title((tasks[first], tasks[second]))]
        if math.isnan(cosines[ALL][first, second]) or _count(values) >= limit:
            continue
        for group, by_pair in cosines.items():
            if not math.isnan(by_pair[first, second]):
                values.setdefault(group, []).append(by_pair[first, second])


def _title(pair: tuple[str, str]) -> str:
    return f"{pair[0]} and {pair[1]}"


def _count(values: Mapping[str, Sequence[float]]) -> int:
    return len(values.get(ALL, ()))
