"""Several samples put together to one: what a mix is, and what of partly labelled samples can be combined."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mtvision.registries import MIXES
from mtvision.types import VOID, Sample

Probability: TypeAlias = Annotated[float, Field(gt=0, le=1)]


class Mix(ABC):
    """Puts a sample and some partners together, all of the same size.

    A sample that somebody searched for objects (``boxes`` is not None) is mixed only with partners of which that holds
    too: an unlabelled object in it would be learned as background, and boxes have no void. Masks have: where the mask
    of one is missing, the result is void; it has none where all are missing.

    Args:
        probability: of each sample to be mixed.

    Attributes:
        when: ``before`` the augmentation of the result, or ``after`` that of each part.
        num_partners: that it needs.
        uses_instances: whether samples without ``instances`` come out otherwise.
    """

    when: ClassVar[Literal["before", "after"]]
    num_partners: ClassVar[int]
    uses_instances: ClassVar[bool] = True

    def __init__(self, probability: float) -> None:
        if self.when not in ("before", "after"):
            raise ValueError(f"{type(self).__name__}.when must be 'before' or 'after', got '{self.when}'")
        self.probability = probability

    @abstractmethod
    def combine(self, sample: Sample, partners: Sequence[Sample], rng: "np.random.Generator") -> Sample:
        """Return the mixed sample; the samples given are not changed."""

    @staticmethod
    def suits(sample: Sample, partner: Sample) -> bool:
        """Tell whether a partner can be mixed into a sample without hiding that something was not annotated."""
        return sample.boxes is None or partner.boxes is not None


class MixUp(Mix):
    """Two samples on top of each other, each half transparent, with the objects of both.

    Where both masks say the same, or one has an object on the other's background, that is the mask; two different
    objects, or anything void, give void. Further annotations (``maps``, ``values``) are unknown afterwards.
    """

    when = "after"
    num_partners = 1
    uses_instances = False

    def __init__(self, probability: float, concentration: float) -> None:
        super().__init__(probability)
        self.concentration = concentration

    @staticmethod
    def suits(sample: Sample, partner: Sample) -> bool:
        """As of every mix; and to a mask only another mask is mixed, since void all over would teach nothing."""
        return Mix.suits(sample, partner) and (sample.mask is None or partner.mask is not None)

    def combine(self, sample: Sample, partners: Sequence[Sample], rng: "np.random.Generator") -> Sample:
        """Return the mixed sample."""
        import cv2

        (partner,) = partners
        share = float(rng.beta(self.concentration, self.concentration))
        image = cv2.addWeighted(sample.image, share, partner.image, 1 - share, 0)
        mixed = joined_objects(sample, partner)
        return replace(
            mixed,
            image=np.asarray(image, dtype=np.uint8),
            mask=_blended_mask(mask_or_void(sample, [partner]), mask_or_void(partner, [sample])),
            maps=dict.fromkeys({**sample.maps, **partner.maps}),
            values=dict.fromkeys({**sample.values, **partner.values}),
            instances=None,  # two objects may share a pixel
        )


@MIXES.register("mixup")
def mixup(*, probability: Probability = 0.15, concentration: Annotated[float, Field(gt=0, le=1000)] = 32.0) -> MixUp:
    """Two images half transparent on top of each other, with the objects of both (Zhang et al. 2018, arXiv 1710.09412).

    For detection: Zhang et al. 2019, arXiv 1902.04103.

    Args:
        probability: of each sample to be mixed.
        concentration: of the beta distribution that the share is drawn from: 32 keeps near one half, 1 is uniform.
    """
    return MixUp(probability, concentration)


def mask_or_void(sample: Sample, others: Sequence[Sample]) -> NDArray[np.uint8] | None:
    """Return a sample's mask, all void if it has none but another one has, None if none has."""
    if sample.mask is not None or all(other.mask is None for other in others):
        return sample.mask
    return np.full(sample.image.shape[:2], VOID, dtype=np.uint8)


def joined_objects(sample: Sample, *others: Sample) -> Sample:
    """Return a sample with the boxes, labels and flags of all; boxes None in the first stay None.

    Instance maps are not joined: that depends on what lies on top.
    """
    if sample.boxes is None or any(other.boxes is None for other in others):
        return replace(sample, boxes=None, labels=None, difficult=None, instances=None)
    parts: Any = [(each.boxes, each.labels, each.difficult) for each in (sample, *others)]
    boxes, labels, difficult = (np.concatenate(values) for values in zip(*parts, strict=True))
    return replace(sample, boxes=boxes, labels=labels, difficult=difficult, instances=None)


def joined_instances(samples: Sequence[Sample]) -> list[NDArray[np.uint16]] | None:
    """Return the instance maps of samples, numbered on through all of them; None if one has none."""
    maps, before = [], 0
    for sample in samples:
        if sample.instances is None or sample.boxes is None:
            return None
        numbered = sample.instances.astype(np.uint16)
        maps.append(np.where(numbered > 0, numbered + np.uint16(before), np.uint16(0)))
        before += len(sample.boxes)
    return maps


def joined_maps(samples: Sequence[Sample]) -> dict[str, list[NDArray[Any]] | None]:
    """Return, by name, the maps of all samples, void where one has none; None for a name that none has a map of."""
    joined: dict[str, list[NDArray[Any]] | None] = {}
    for name in dict.fromkeys(name for sample in samples for name in sample.maps):
        known = next((values for sample in samples if (values := sample.maps.get(name)) is not None), None)
        joined[name] = None if known is None else [_map_or_void(sample, name, known) for sample in samples]
    return joined


def _map_or_void(sample: Sample, name: str, like: NDArray[Any]) -> NDArray[Any]:
    values = sample.maps.get(name)
    if values is not None:
        return values
    shape = (*sample.image.shape[:2], *like.shape[2:])
    return np.full(shape, np.nan if like.dtype.kind == "f" else VOID, dtype=like.dtype)


def unknown_values(samples: Sequence[Sample]) -> Mapping[str, None]:
    """Return the names of annotations of whole images, all unknown: of several images none holds."""
    return dict.fromkeys(name for sample in samples for name in sample.values)


def _blended_mask(own: NDArray[np.uint8] | None, other: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    if own is None or other is None:
        return None
    void = np.uint8(VOID)
    either = np.where(own == 0, other, own)
    clear = (own == other) | (own == 0) | (other == 0)
    return np.where((own == void) | (other == void) | ~clear, void, either)
