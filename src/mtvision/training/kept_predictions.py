"""Predictions that an evaluation keeps, by image."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtvision.errors import DataError
from mtvision.training.observing import Seen
from mtvision.types import Prediction

_LARGEST = 255


class KeptPredictions:
    """Predictions of all images, on the CPU, masks as uint8.

    Attributes:
        by_image: by the image's id, in the order of the data; a mask of 500 x 375 pixels is 0.2 MB.
    """

    wants_confidence = False

    def __init__(self) -> None:
        self.by_image: dict[str, Prediction] = {}

    def add(self, seen: Seen) -> None:
        """Keep those of a batch.

        Raises:
            DataError: if an id was there before.
        """
        for index, image_id in enumerate(seen.image_ids):
            if image_id in self.by_image:
                raise DataError(f"the image id {image_id!r} occurs twice; predictions are kept by it, so it must not")
            self.by_image[image_id] = {task: _compact(found[index]) for task, found in seen.predictions.items()}


def _compact(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _compact(item) for key, item in value.items()}
    if not isinstance(value, Tensor):
        return value
    is_mask = value.dtype == torch.int64 and value.ndim == 2
    fits = is_mask and value.numel() > 0 and int(value.min()) >= 0 and int(value.max()) <= _LARGEST
    return value.detach().to("cpu", torch.uint8) if fits else value.detach().cpu().clone()
