"""Choices of the ``model`` section that contradict each other."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import InitErrorDetails

from mtvision.config_errors import problem


def contradictions(values: Mapping[str, Any]) -> list[InitErrorDetails]:
    """Return a problem for each pair of values of the section that cannot be meant together.

    Args:
        values: of the section, as they were given.
    """
    no_segmentation, no_detection = (values.get(f"{kind}_head", "") is None for kind in ("segmentation", "detection"))
    found = []
    if no_segmentation and no_detection and not values.get("tasks"):
        found.append(problem(("segmentation_head",), "null, as detection_head is: at least one head is needed"))
    if no_segmentation and values.get("auxiliary_heads"):
        found.append(problem(("auxiliary_heads",), "belong to the segmentation task, but segmentation_head is null"))
    if no_detection:
        found += _neck_without_detection(values)
    found += [
        problem(("tasks", name), f"'{name}' is made by {key}; choose another name")
        for name, key in (("seg", "segmentation_head"), ("det", "detection_head"))
        if isinstance(values.get("tasks"), Mapping) and name in values["tasks"]
    ]
    if values.get("pretrained", False) is not False:
        found += [
            problem((key,), "true would overwrite the weights that 'pretrained' loads; choose one")
            for key in ("init_backbone", "zero_init_residual")
            if values.get(key) is True
        ]
    return found


def _neck_without_detection(values: Mapping[str, Any]) -> list[InitErrorDetails]:
    shares, neck = values.get("share_neck", False) is True, values.get("neck")
    if shares and neck is None:
        return [problem(("share_neck",), "true, but there is no neck to share: choose one as model.neck")]
    if neck is not None and not shares:
        return [problem(("neck",), "stands before the detection head, which is null; share_neck: true for all tasks")]
    return []
