"""What may look on while images are scored."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor


class Seen(NamedTuple):
    """A batch that was scored.

    Attributes:
        image_ids: of each image.
        image_sizes: ``(H, W)`` of each image as stored.
        images: uint8 ``(3, h, w)`` RGB each, as the network got them, or of the original size.
        predictions: by task, one an image, in pixels of ``image_sizes``.
        truths: by the name of an annotation, one an image, at the original size; None where nobody looked.
        confidence: by task, for those that have one: ``(H, W)`` an image, the probability of what is predicted at each
            pixel, in [0, 1]; empty unless an observer wants it.
    """

    image_ids: Sequence[str]
    image_sizes: Sequence[tuple[int, int]]
    images: Sequence[Tensor]
    predictions: Mapping[str, Sequence[Any]]
    truths: Mapping[str, Sequence[Any]]
    confidence: Mapping[str, Sequence[Tensor]]


class Observer(Protocol):
    """Looks on while images are scored, batch by batch, in the order of the data."""

    @property
    def wants_confidence(self) -> bool:
        """Whether ``confidence`` is to be worked out, which takes a softmax over all pixels."""

    def add(self, seen: Seen) -> None:
        """Take note of a batch."""
