"""Depth from one image: a distance for each pixel."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn

from mtvision.config_fields import In
from mtvision.errors import ConfigError, DataError
from mtvision.layers.resize import resize_to
from mtvision.ops.processes import divisor
from mtvision.registries import SEGMENTATION_HEADS, TASKS
from mtvision.registry import Component
from mtvision.tasks.base import Task, with_dropout
from mtvision.types import FeatureInfo

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

logger = logging.getLogger(__name__)

DepthLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``loss(depth (N, H, W), target (N, H, W)) -> scalar``; NaN in the target never counts."""

_FCN = Component("fcn")


class DepthOutput(NamedTuple):
    """What the network says about pixels: ``depth`` ``(N, H, W)`` float32 in the unit of ``max_depth``."""

    depth: Tensor


class DepthTask(Task):
    """Depth estimation as dense regression (Eigen et al. 2014, arXiv 1406.2283).

    The depth is ``min_depth + (max_depth - min_depth) * sigmoid(head)``, a sigmoid times the largest depth as in BTS
    (Lee et al. 2019, arXiv 1907.10326): positive, bounded, and in the middle of the range where the head says 0, as it
    about does before training. So choose the range that the data has.

    A pixel counts, in the loss and in the metrics, where its true depth lies in ``[min_depth, max_depth]``: NaN, the 0
    that sensors write for "nothing measured" and what is farther than the cap do not, as in the papers' protocols.

    Args:
        head: features to one map ``(N, 1, h, w)`` at any stride.
        loss: `l1`, `ScaleInvariantLog` or a function like them.
        min_depth: above 0, in the unit of the data: usually metres.
        max_depth: above ``min_depth``.

    Raises:
        ConfigError: if the depths are not as said.

    Example:
        >>> from mtvision.heads.segmentation.fcn import FCNHead
        >>> task = DepthTask(FCNHead([FeatureInfo(8, 32)], 1, variant="32s"), l1, max_depth=80.0)
        >>> task([torch.zeros(2, 8, 2, 2)], (64, 64)).depth.shape
        torch.Size([2, 64, 64])
    """

    main_metric: ClassVar[str] = "delta1"

    def __init__(
        self, head: nn.Module, loss: DepthLoss | None = None, *, min_depth: float = 1e-3, max_depth: float = 10.0
    ) -> None:
        super().__init__()
        if not 0 < min_depth < max_depth:
            raise ConfigError([f"a depth task needs 0 < min_depth < max_depth, got {min_depth:g} and {max_depth:g}"])
        self.head = head
        self.criterion = loss or l1
        self.min_depth = min_depth
        self.max_depth = max_depth

    def forward(self, features: Sequence[Tensor], image_size: tuple[int, int]) -> DepthOutput:
        """Return depths ``(N, *image_size)``; what the head says is resized bilinearly.

        Raises:
            ConfigError: if the head gives another number of maps than 1.
        """
        maps: Tensor = self.head(features)
        if maps.shape[1] != 1:
            raise ConfigError([f"the head of a depth task must give 1 map, got {maps.shape[1]}"])
        share = resize_to(maps.float(), image_size)[:, 0].sigmoid()
        return DepthOutput(self.min_depth + (self.max_depth - self.min_depth) * share)

    def loss(self, output: DepthOutput, target: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """Return ``{"depth": scalar}``.

        Args:
            output: of `forward`.
            target: an image ``(H, W)`` float, NaN where nothing is known, or None.

        Raises:
            DataError: if there are not as many targets as images, or one is not of float or of another size.
            ConfigError: if the loss is no scalar.
        """
        truth = _stacked(target, output.depth)
        counts = (truth >= self.min_depth) & (truth <= self.max_depth)  # False for NaN
        loss = self.criterion(output.depth, torch.where(counts, truth, torch.nan))
        if loss.ndim != 0:
            raise ConfigError([f"a depth loss must return a scalar, got {tuple(loss.shape)}"])
        return {"depth": loss}

    def postprocess(self, output: DepthOutput, image_sizes: Sequence[tuple[int, int]] | None = None) -> list[Tensor]:
        """Return the depths of each image, float32 ``(H, W)`` of the size asked for, resized bilinearly."""
        if image_sizes is None:
            return list(output.depth)
        sized = zip(output.depth, image_sizes, strict=True)
        return [depth if depth.shape == size else resize_to(depth[None, None], size)[0, 0] for depth, size in sized]

    def metrics(self) -> "MetricCollection":
        """Return ``abs_rel``, ``rmse``, ``silog`` (lower is better) and ``delta1`` (a share), see `DepthMetric`."""
        from mtvision.tasks.depth_metrics import depth_metrics

        return depth_metrics(self.min_depth, self.max_depth)


def l1(depth: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error over the pixels of the batch that are known, a scalar, 0 if there is none.

    Args:
        depth: ``(N, H, W)``.
        target: likewise; NaN does not count.

    Example:
        >>> l1(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, torch.nan]]]))
        tensor(2.)
    """
    known = ~target.isnan()
    errors = torch.where(known, depth - target, 0.0)
    return errors.abs().sum() / divisor(known.sum())


class ScaleInvariantLog:
    """Equation 4 of Eigen et al. 2014 (arXiv 1406.2283): mean(d²) - λ mean(d)² of d = log(depth) - log(target).

    The mean over the known pixels of an image, then over the images that have any; 0 if none has. BTS and AdaBins take
    10 times the square root with a λ of 0.85; this is the equation as printed, whose λ is 0.5.

    Args:
        variance_focus: λ in [0, 1]: with 1 the scale does not matter, with 0 it is the squared error of the logarithm.

    Raises:
        ConfigError: if λ is outside [0, 1].

    Example:
        >>> twice_as_far = torch.tensor([[[2.0, 4.0]]]), torch.tensor([[[1.0, 2.0]]])
        >>> float(ScaleInvariantLog(variance_focus=1.0)(*twice_as_far))
        0.0
    """

    def __init__(self, variance_focus: float = 0.5) -> None:
        if not 0 <= variance_focus <= 1:
            raise ConfigError([f"scale_invariant_log: expected a variance_focus in [0, 1], got {variance_focus:g}"])
        self.variance_focus = variance_focus

    def __call__(self, depth: Tensor, target: Tensor) -> Tensor:
        """Return the loss of depths ``(N, H, W)`` above 0; NaN in the target does not count."""
        known = ~target.isnan()
        number = known.sum(dim=(1, 2)).clamp(min=1)  # (N,)
        errors = torch.where(known, depth.log() - target.log(), 0.0)
        mean = errors.sum(dim=(1, 2)) / number
        deviations = torch.where(known, errors - mean[:, None, None], 0.0)
        # mean(d²) - λ mean(d)² without the difference of two large numbers
        losses = deviations.square().sum(dim=(1, 2)) / number + (1 - self.variance_focus) * mean.square()
        return losses.sum() / divisor(known.any(dim=2).any(dim=1).sum())


def _stacked(target: Sequence[Tensor | None], depth: Tensor) -> Tensor:
    """Return the targets ``(N, H, W)``; an image without is all NaN."""
    if len(target) != len(depth):
        raise DataError(f"depth targets: expected one an image ({len(depth)}), got {len(target)}")
    for each in target:
        if each is not None and (each.shape != depth.shape[1:] or not each.is_floating_point()):
            wanted, got = tuple(depth.shape[1:]), f"{each.dtype} {tuple(each.shape)}".removeprefix("torch.")
            raise DataError(f"a depth target: expected float {wanted}, got {got}")
    unknown = torch.full_like(depth[0], torch.nan) if len(depth) else depth
    rows = [unknown if each is None else each.to(unknown) for each in target]
    return torch.stack(rows) if rows else torch.zeros_like(depth)


_LOSSES: dict[str, DepthLoss] = {"l1": l1, "scale_invariant_log": ScaleInvariantLog()}


@TASKS.register("depth")
def depth(
    feature_info: Sequence[FeatureInfo],
    *,
    head: Annotated[Component, In(SEGMENTATION_HEADS)] = _FCN,
    loss: Literal["l1", "scale_invariant_log"] = "l1",
    min_depth: Annotated[float, Field(gt=0)] = 1e-3,
    max_depth: Annotated[float, Field(gt=0)] = 10.0,
    dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> DepthTask:
    """Depth from one image: a distance for each pixel (Eigen et al. 2014, arXiv 1406.2283).

    Args:
        feature_info: of the backbone, or of the neck where it is shared.
        head: of the registry `SEGMENTATION_HEADS`, built with one class.
        loss: "l1", the mean absolute error, or "scale_invariant_log", equation 4 of the paper with its λ of 0.5.
        min_depth: the smallest depth that is predicted and counts, in the unit of the data.
        max_depth: the largest; the default is that of indoor data in metres, 80 is usual for roads.
        dropout_rate: of the head, where it has such an option and was not given its own.

    Raises:
        ConfigError: if ``max_depth`` is not above ``min_depth``, or the head does not fit the features.
    """
    built = SEGMENTATION_HEADS.build(with_dropout(SEGMENTATION_HEADS, head, dropout_rate), feature_info, 1)
    return DepthTask(built, _LOSSES[loss], min_depth=min_depth, max_depth=max_depth)
