"""Normalization layers by name, and the replacement of batch norm across a whole model."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from mtvision.errors import ConfigError
from mtvision.layers.blocks import FrozenBatchNorm2d, make_norm
from mtvision.registries import NORMS
from mtvision.registry import Component

Epsilon = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]

_AFFINE = ("weight", "bias")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_SETTINGS = ("eps", "momentum", "track_running_stats")
_FOLLOWERS = ("drop", "act")
"""What timm's norms with an activation inside do after the norm, in this order."""


@NORMS.register("batch")
def batch(channels: int, *, eps: Epsilon = 1e-5, momentum: Momentum = 0.1) -> nn.Module:
    """Statistics of the batch (Ioffe & Szegedy 2015, arXiv 1502.03167).

    Args:
        channels: K of the maps.
        eps: keeps the division by the standard deviation finite.
        momentum: share of a new batch in the running statistics that evaluation uses.
    """
    return nn.BatchNorm2d(channels, eps=eps, momentum=momentum)


@NORMS.register("sync")
def sync(channels: int, *, eps: Epsilon = 1e-5, momentum: Momentum = 0.1) -> nn.Module:
    """Batch norm over the batches of all processes (Peng et al. 2018, MegDet, arXiv 1711.07240).

    With several processes the tensors must be on accelerators; in one process it is batch norm.

    Args:
        channels: K of the maps.
        eps: keeps the division by the standard deviation finite.
        momentum: share of a new batch in the running statistics that evaluation uses.
    """
    return nn.SyncBatchNorm(channels, eps=eps, momentum=momentum)


@NORMS.register("frozen")
def frozen(channels: int, *, eps: Epsilon = 1e-5) -> nn.Module:
    """Batch norm with fixed statistics and weights, for pretrained parts (He et al. 2015, arXiv 1512.03385).

    Args:
        channels: K of the maps.
        eps: keeps the division by the standard deviation finite.
    """
    return FrozenBatchNorm2d(channels, eps)


@NORMS.register("group")
def group(channels: int, *, num_groups: Count | None = None, channels_per_group: Count | None = None) -> nn.Module:
    """Statistics of groups of channels of one image (Wu & He 2018, arXiv 1803.08494).

    Without an option groups have 16 channels, or more where 16 does not divide ``channels``.

    Args:
        channels: K of the maps.
        num_groups: of each layer.
        channels_per_group: instead of ``num_groups``, so that wide layers have more groups.

    Raises:
        ConfigError: if both options are given, or if the one that is does not divide ``channels``.
    """
    _check_groups([channels], num_groups, channels_per_group)
    if num_groups is None and channels_per_group is None:
        return make_norm("group", channels)
    return nn.GroupNorm(num_groups or channels // (channels_per_group or 1), channels)


def _check_groups(widths: Iterable[int], num_groups: int | None = None, channels_per_group: int | None = None) -> None:
    """Refuse options of `group` that do not fit all layers, in one sentence."""
    if num_groups is not None and channels_per_group is not None:
        raise ConfigError(["norm 'group': num_groups and channels_per_group say the same; give one of them"])
    for key, value in (("num_groups", num_groups), ("channels_per_group", channels_per_group)):
        wrong = sorted({width for width in widths if value is not None and width % value})
        if wrong:
            *others, last = map(str, wrong)
            listed = f"{', '.join(others)} or {last}" if others else last
            raise ConfigError([f"norm 'group': {key}={value} does not divide the {listed} channels of a layer"])


def replace_norms(module: nn.Module, choice: Component | str) -> int:
    """Replace every 2-dimensional batch norm inside ``module`` by a new norm, in place; return how many were replaced.

    The new norm has the parameters, by name and identity, of the old one, and its device, dtype and mode; a norm that
    has statistics gets those of the old one, and its ``eps`` and ``momentum`` where ``choice`` does not give them.
    Where the old one drops and activates (timm's ``BatchNormAct2d``), the new one does too. A norm that is used in
    several places stays shared. Other norms, and ``module`` itself, are never replaced.

    Args:
        module: a model or a part of one.
        choice: an entry of `NORMS`, a bare name or with options.

    Raises:
        ConfigError: if the choice does not fit the channels of a layer, or if there are no statistics to freeze; all
            problems at once, and ``module`` is unchanged.
        RegistryError: for an unknown name.
        pydantic.ValidationError: for an option that the norm does not have or a value that it does not take.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32))
        >>> replace_norms(model, "group")
        1
        >>> type(model[1]).__name__, model[1].num_groups
        ('GroupNorm', 2)
    """
    choice = Component(choice) if isinstance(choice, str) else choice
    places = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent._modules.items()  # named_children() leaves out the second place of a shared child
        if isinstance(child, nn.BatchNorm2d | nn.SyncBatchNorm)
    ]
    new_of = _new_norms(choice, list(dict.fromkeys(child for *_, child in places)))
    for parent, name, old in places:
        setattr(parent, name, new_of[old])
    return len(new_of)


def _new_norms(choice: Component, olds: Sequence[nn.BatchNorm2d | nn.SyncBatchNorm]) -> dict[nn.Module, nn.Module]:
    """Return the new norm of each old one; all problems are found before any module changes."""
    if NORMS.get(choice.name) is group:
        _check_groups([old.num_features for old in olds], **NORMS.check_options(choice))
    new_of: dict[nn.Module, nn.Module] = {}
    problems: dict[str, None] = {}
    for old in olds:
        try:
            new_of[old] = _matching(choice, old)
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise ConfigError(list(problems))
    return new_of


def _matching(choice: Component, old: nn.BatchNorm2d | nn.SyncBatchNorm) -> nn.Module:
    new = NORMS.build(choice, old.num_features)
    if isinstance(new, FrozenBatchNorm2d) and old.running_mean is None:
        raise ConfigError(
            [f"norm 'frozen': a batch norm of {old.num_features} channels keeps no statistics that could be frozen"]
        )
    reference = next((t for t in chain(old.parameters(), old.buffers()) if t.is_floating_point()), None)
    if reference is not None:
        new.to(device=reference.device, dtype=reference.dtype)
    if "running_var" in new._buffers:
        for key in _SETTINGS:
            if key not in choice.options and hasattr(new, key):
                setattr(new, key, getattr(old, key))
    if hasattr(new, "affine"):
        new.affine = old.affine  # type: ignore[assignment] # a plain attribute
    for name in (*_AFFINE, *_STATISTICS):
        _carry_over(new, name, getattr(old, name))
    new.train(old.training)
    _follow(new, old)
    return new


def _carry_over(new: nn.Module, name: str, value: Tensor | None) -> None:
    """Set a parameter or buffer that the new norm has too, in the same shape; None where the old norm has none."""
    current = new._parameters.get(name, new._buffers.get(name))
    if current is None or (value is not None and value.shape != current.shape):
        return
    is_parameter = name in new._parameters
    setattr(new, name, value if value is None or is_parameter else value.detach().clone())


def _follow(new: nn.Module, old: nn.Module) -> None:
    """Let the new norm drop and activate as the old one; a wrapper around it would change its parameters' names."""
    followers = {name: old._modules[name] for name in _FOLLOWERS if name in old._modules}
    for name, follower in followers.items():
        new.add_module(name, follower)
    if followers:
        new.register_forward_hook(_drop_and_activate)


def _drop_and_activate(norm: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
    for name in _FOLLOWERS:
        follower = norm._modules.get(name)
        output = output if follower is None else follower(output)
    return output
