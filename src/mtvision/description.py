"""What a model consists of, and what initialized each of its parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

OWN = "its module's own"
"""What initialized a parameter of which nothing else is known."""

_HEADINGS = ("part", "class", "parameters", "trainable", "of these", "initialized by")
_TO_THE_RIGHT = (2, 3, 4)
_GAP = "  "


@dataclass(frozen=True)
class PartDescription:
    """One part of a model.

    Attributes:
        part: its name in the model, ``"backbone"`` or ``"tasks.seg"``; ``"(model)"`` for the model's own parameters.
        kind: its class, with the name of the backbone or the class of the head where it has one.
        parameters: how many numbers its parameters hold.
        trainable: how many of them require a gradient.
        initialized_by: how many of them each initialization set, most first.
    """

    part: str
    kind: str
    parameters: int
    trainable: int
    initialized_by: Mapping[str, int]


@dataclass(frozen=True)
class ModelDescription:
    """What `describe_model` found; ``str()`` of it is a table.

    Attributes:
        rows: the parts, in the order of the model.
    """

    rows: tuple[PartDescription, ...]

    @property
    def parameters(self) -> int:
        """How many numbers the model's parameters hold."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        """How many of them require a gradient."""
        return sum(row.trainable for row in self.rows)

    def __str__(self) -> str:
        """Return a plain-text table, one line for each part and a further one for each further initialization."""
        lines = [_HEADINGS, *(line for row in self.rows for line in _lines(row))]
        lines.append(("total", "", f"{self.parameters:,}", f"{self.trainable:,}", "", ""))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(_aligned(line, widths) for line in lines)


def describe_model(model: nn.Module, origins: Mapping[str, str]) -> ModelDescription:
    """Describe the parts of a model: its children, and in the place of a `nn.ModuleDict` what is in it.

    A parameter that several parts share is counted in the first of them.

    Args:
        model: any module.
        origins: what initialized a parameter, by its name in the model, as `mtvision.initializers` returns it; where
            there is nothing, it is `OWN`. Names that the model does not have are passed over.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.PReLU())
        >>> print(describe_model(model, prefixed("0", {"weight": "xavier", "bias": "0"})))
        part   class   parameters  trainable  of these  initialized by
        0      Conv2d          32         32        24  xavier
                                                     8  0
        1      PReLU            1          1         1  its module's own
        total                  33         33
    """
    texts = {
        id(parameter): origins[name]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name in origins
    }
    seen: set[int] = set()
    rows = []
    for part, module, parameters in _parts(model):
        new = [parameter for parameter in parameters if id(parameter) not in seen]
        seen.update(map(id, new))
        rows.append(_row(part, module, new, texts))
    return ModelDescription(tuple(rows))


def prefixed(prefix: str, origins: Mapping[str, str]) -> dict[str, str]:
    """Return the origins of a part's parameters under their names in the model.

    Example:
        >>> prefixed("backbone", {"stem.weight": "pretrained"})
        {'backbone.stem.weight': 'pretrained'}
    """
    return {f"{prefix}.{name}": text for name, text in origins.items()}


def all_from(module: nn.Module, origin: str) -> dict[str, str]:
    """Return one origin for all parameters of a part: ``"pretrained"``, ``"checkpoint"``.

    Example:
        >>> all_from(nn.Linear(2, 2), "checkpoint")
        {'weight': 'checkpoint', 'bias': 'checkpoint'}
    """
    return {name: origin for name, _ in module.named_parameters()}


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module, list[nn.Parameter]]]:
    own = list(model.parameters(recurse=False))
    if own:
        yield "(model)", model, own
    for name, child in model.named_children():
        inner = child.items() if isinstance(child, nn.ModuleDict) else ()
        for key, part in inner:
            yield f"{name}.{key}", part, list(part.parameters())
        if not isinstance(child, nn.ModuleDict):
            yield name, child, list(child.parameters())


def _row(part: str, module: nn.Module, parameters: Sequence[nn.Parameter], texts: Mapping[int, str]) -> PartDescription:
    counts: dict[str, int] = {}
    for parameter in parameters:
        text = texts.get(id(parameter), OWN)
        counts[text] = counts.get(text, 0) + parameter.numel()
    return PartDescription(
        part=part,
        kind=_kind(module),
        parameters=sum(counts.values()),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        initialized_by=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
    )


def _kind(module: nn.Module) -> str:
    kind = type(module).__name__
    name, head = getattr(module, "name", None), getattr(module, "head", None)
    if isinstance(name, str):
        return f"{kind}({name})"
    return f"{kind}({type(head).__name__})" if isinstance(head, nn.Module) else kind


def _lines(row: PartDescription) -> Iterator[tuple[str, ...]]:
    head = (row.part, row.kind, f"{row.parameters:,}", f"{row.trainable:,}")
    origins = [(f"{count:,}", text) for text, count in row.initialized_by.items()] or [("", "")]
    for index, origin in enumerate(origins):
        yield (*(("",) * len(head) if index else head), *origin)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if index in _TO_THE_RIGHT else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return _GAP.join(cells).rstrip()
