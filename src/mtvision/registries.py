"""The registries, one a role. Each states what its factories are called with; all else is a keyword-only option.

``home`` is the module that holds a role's own entries, named as text: it lies above this one, and is imported when the
registry is first asked, or somebody else registers.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from mtvision.registry import Registry
from mtvision.types import Sample

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Schedule: TypeAlias = Callable[[float], float]

BACKBONES: Registry[nn.Module] = Registry("backbone", ("pretrained",), home="mtvision.backbones")
"""``factory(pretrained: bool) -> Backbone``: a module with ``feature_info`` that maps images to a list of features."""

NECKS: Registry[nn.Module] = Registry("neck", ("feature_info",), home="mtvision.necks")
"""``factory(feature_info) -> Neck``: a module with its own ``feature_info`` that maps features to features."""

SEGMENTATION_HEADS: Registry[nn.Module] = Registry(
    "segmentation head", ("feature_info", "num_classes"), home="mtvision.heads"
)
"""``factory(feature_info, num_classes) -> head``: features to logits ``(N, C, h, w)`` at any stride."""

DETECTION_HEADS: Registry[nn.Module] = Registry(
    "detection head", ("feature_info", "num_classes"), home="mtvision.heads"
)
"""``factory(feature_info, num_classes) -> head``: features to ``(class_logits, box_regression, points)``."""

SEGMENTATION_LOSSES: Registry[Loss] = Registry("loss", (), home="mtvision.losses")
"""``factory() -> loss``: ``loss(logits (N, C, H, W), mask (N, H, W)) -> scalar``; 255 never counts."""

BOX_LOSSES: Registry[Loss] = Registry("loss", (), home="mtvision.losses")
"""``factory() -> loss``: ``loss(predicted (M, 4), target (M, 4)) -> (M,)`` for xyxy boxes in units of the stride."""

CLASSIFICATION_LOSSES: Registry[Loss] = Registry("loss", (), home="mtvision.losses")
"""``factory() -> loss``: ``loss(logits, targets in [0, 1]) -> `` one value an element, in the shape of the logits."""

ASSIGNERS: Registry[Callable[..., Any]] = Registry("assigner", (), home="mtvision.assigners")
"""``factory() -> assigner``: which point of a detection head learns which object; see `assigners.base.Assigner`."""

SUPPRESSIONS: Registry[Callable[..., tuple[Tensor, Tensor]]] = Registry("suppression", (), home="mtvision.suppression")
"""``factory() -> suppress``: which of several detections of one object stay; see `suppression.Suppression`."""

NORMS: Registry[nn.Module] = Registry("norm", ("channels",), home="mtvision.norms")
"""``factory(channels) -> module``: a normalization layer of maps ``(N, channels, H, W)``."""

INITIALIZERS: Registry[Callable[[Tensor], None]] = Registry("init scheme", (), home="mtvision.initializers")
"""``factory() -> initializer``: fills one weight tensor of a convolution or linear layer in place."""

ACTIVATIONS: Registry[nn.Module] = Registry("activation", (), home="mtvision.activations")
"""``factory() -> module``: a new elementwise activation."""

PREPROCESSING: Registry[Any] = Registry("preprocessing", (), home="mtvision.data")
"""``factory() -> Normalization``: which mean and standard deviation the model's input layer uses."""

AUGMENTATIONS: Registry[Callable[[Sample, int], Sample]] = Registry(
    "augmentation", ("image_size",), home="mtvision.data"
)
"""``factory(image_size) -> transform``: ``transform(sample, seed) -> Sample`` of size ``image_size`` (H, W)."""

MIXES: Registry[Any] = Registry("mix", (), home="mtvision.data")
"""``factory() -> Mix``: puts several samples together to one; see `data.mixing.Mix`."""

SAMPLERS: Registry[Any] = Registry("sampler", ("dataset", "batch_size"), home="mtvision.data")
"""``factory(dataset, batch_size) -> Order``: which samples an epoch has, in which order; see `data.orders.Order`."""

SCHEDULES: Registry[Schedule] = Registry("learning-rate schedule", ("epochs",), home="mtvision.training.schedule")
"""``factory(epochs) -> schedule``: ``schedule(epoch: float) -> factor`` of the base learning rate."""

OPTIMIZERS: Registry[Any] = Registry(
    "optimizer", ("parameters", "lr", "weight_decay"), home="mtvision.training.optimizers"
)
"""``factory(parameters, lr, weight_decay) -> torch.optim.Optimizer``."""

BALANCERS: Registry[Any] = Registry("balancer", ("num_tasks",), home="mtvision.training.balancing")
"""``factory(num_tasks) -> Balancer``: how much each task's loss weighs; see `training.balancing.Balancer`."""

DATASETS: Registry[Sequence[Sample]] = Registry("data set", ("root", "split"), home="mtvision.data")
"""``factory(root, split) -> Dataset``: a sequence of `Sample` with ``classes``."""

TASKS: Registry[nn.Module] = Registry("task", ("feature_info",), home="mtvision.tasks")
"""``factory(feature_info) -> Task``: head + loss + postprocess + metrics."""

DESIGNS: Registry[Any] = Registry("design", ("factors", "seed"), home="mtvision.study.planning.designs")
"""``factory(factors, seed) -> FixedDesign | SearchDesign``: which combinations of levels a study runs."""
