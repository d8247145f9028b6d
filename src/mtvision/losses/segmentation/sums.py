"""Sums of segmentation losses."""

from collections import Counter
from typing import Annotated

from pydantic import AfterValidator
from torch import Tensor, nn

from mtvision.config_fields import Term, TermOf, at_least_one_term
from mtvision.registries import SEGMENTATION_LOSSES, Loss

Terms = Annotated[list[Annotated[Term, TermOf(SEGMENTATION_LOSSES)]], AfterValidator(at_least_one_term)]


@SEGMENTATION_LOSSES.register("sum")
class WeightedSum(nn.Module):
    """The weighted sum of several losses; a config writes it as the list of its terms (mtvision).

    Args:
        terms: each a loss of the registry, by its name or as a mapping of ``name``, ``weight`` (above 0, 1 unless said)
            and the loss's own options.

    Example:
        >>> import torch
        >>> from mtvision.registry import Component
        >>> loss = SEGMENTATION_LOSSES.build(Component("sum", {"terms": ["jaccard", {"name": "dice", "weight": 2}]}))
        >>> loss.parts(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64))
        {'jaccard': tensor(0.5000), 'dice': tensor(0.6667)}
    """

    def __init__(self, *, terms: Terms) -> None:
        super().__init__()
        self.names = _numbered([term.component.name for term in terms])
        self.weights = tuple(term.weight for term in terms)
        self.losses = nn.ModuleList(_as_module(SEGMENTATION_LOSSES.build(term.component)) for term in terms)

    def parts(self, logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Return each term times its weight by its name; a name that occurs again gets a number: ``dice_2``."""
        weighted = zip(self.names, self.weights, self.losses, strict=True)
        return {name: weight * loss(logits, mask) for name, weight, loss in weighted}

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the sum of `parts`."""
        first, *others = self.parts(logits, mask).values()
        return sum(others, start=first)


class _Function(nn.Module):
    """A loss that is a function, as a module among modules."""

    def __init__(self, function: Loss) -> None:
        super().__init__()
        self.function = function

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        return self.function(logits, mask)


def _as_module(loss: Loss) -> nn.Module:
    return loss if isinstance(loss, nn.Module) else _Function(loss)


def _numbered(names: list[str]) -> tuple[str, ...]:
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return tuple(numbered)
