"""Objects cut out of one sample and put into another."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mtvision.data.augmentation.mixing import (
    Mix,
    Probability,
    joined_instances,
    joined_maps,
    joined_objects,
    unknown_values,
)
from mtvision.data.augmentation.occlusion import visible_shares
from mtvision.data.geometry import keep_objects
from mtvision.data.instances import are_whole, instance_bounds, tightened
from mtvision.registries import MIXES
from mtvision.types import VOID, Sample

_LEAST_PIXELS = 16  # smaller ones are specks


class CopyPaste(Mix):
    """A random half of the objects of a partner, cut out by its ``instances``, in front of a sample.

    What they cover they hide: mask and instances are those of what is in front; a box that was the bound of its
    object's pixels shrinks to those that are still seen, and an object of which less than ``min_visible`` is left is
    dropped. Without instances in the sample a box stays as it is unless less than that of it can be seen. Difficult
    objects are not pasted. A sample stays as it is where the partner has no instances.
    """

    when = "after"
    num_partners = 1

    def __init__(self, probability: float, min_visible: float) -> None:
        super().__init__(probability)
        self.min_visible = min_visible

    @staticmethod
    def suits(sample: Sample, partner: Sample) -> bool:  # noqa: ARG004 - other mixes look at both
        """Tell whether the partner has objects that can be cut out; what else is in it does not matter."""
        return partner.instances is not None and partner.boxes is not None and len(partner.boxes) > 0

    def combine(self, sample: Sample, partners: Sequence[Sample], rng: "np.random.Generator") -> Sample:
        """Return the sample with objects of the partner in front."""
        (partner,) = partners
        if partner.instances is None or partner.boxes is None or partner.difficult is None:
            return sample
        pixels = np.bincount(partner.instances.ravel(), minlength=len(partner.boxes) + 1)[1:]
        chosen = (rng.random(len(partner.boxes)) < 0.5) & ~partner.difficult & (pixels >= _LEAST_PIXELS)
        cut = keep_objects(partner, chosen)
        if not chosen.any() or cut.instances is None or cut.boxes is None:
            return sample
        front = cut.instances > 0  # (H, W)
        # Only the pixels are pasted, whatever a box says of what was hidden.
        behind = _behind(sample, front, self.min_visible)
        return _in_front(behind, replace(cut, boxes=instance_bounds(cut.instances, len(cut.boxes))), front)


@MIXES.register("copy_paste")
def copy_paste(*, probability: Probability = 0.5, min_visible: Annotated[float, Field(ge=0, le=1)] = 0.1) -> CopyPaste:
    """Objects of another image, by their instance masks, in front of this one (Ghiasi et al. 2021, arXiv 2012.07177).

    Args:
        probability: of each sample to be mixed.
        min_visible: share of an object's pixels below which it is dropped when it is covered.
    """
    return CopyPaste(probability, min_visible)


def _behind(sample: Sample, front: NDArray[np.bool_], min_visible: float) -> Sample:
    """Return a sample's objects, as far as they can still be seen, and its instances without what is hidden."""
    if sample.boxes is None:
        return sample
    if sample.instances is None:
        return keep_objects(sample, visible_shares(front, sample.boxes) >= max(min_visible, 1e-9))
    num_objects = len(sample.boxes)
    areas = np.bincount(sample.instances.ravel(), minlength=num_objects + 1)[1:]
    bounds = instance_bounds(sample.instances, num_objects)
    instances = np.where(front, sample.instances.dtype.type(0), sample.instances)
    boxes, visible = tightened(
        sample.boxes, bounds, instance_bounds(instances, num_objects), are_whole(sample.boxes, bounds)
    )
    left = replace(sample, boxes=boxes, instances=instances)
    enough = np.bincount(instances.ravel(), minlength=num_objects + 1)[1:] >= min_visible * areas
    # Of an object without pixels the box alone tells whether it is covered.
    open_ = (areas > 0) | (visible_shares(front, sample.boxes) >= max(min_visible, 1e-9))
    return keep_objects(left, visible & enough & open_)


def _in_front(sample: Sample, cut: Sample, front: NDArray[np.bool_]) -> Sample:
    def over(behind: NDArray[Any], values: Any) -> NDArray[Any]:
        mask = front if behind.ndim == 2 else front[..., None]
        return np.where(mask, values, behind).astype(behind.dtype)

    pasted = replace(sample, image=over(sample.image, cut.image), values=unknown_values([sample, cut]))
    if sample.mask is not None:
        pasted = replace(pasted, mask=over(sample.mask, VOID if cut.mask is None else cut.mask))
    maps: dict[str, NDArray[Any] | None] = {}
    for name, values in joined_maps([sample, cut]).items():
        own = sample.maps.get(name)
        maps[name] = None if values is None or own is None else over(own, values[1])
    pasted = replace(pasted, maps=maps)
    if sample.boxes is None:
        return pasted
    instances = joined_instances([sample, cut])
    joined = joined_objects(pasted, cut)
    return replace(joined, instances=None if instances is None else np.maximum(*instances))
