"""What the methods of `MultiTaskModel` for the hub take; nothing here needs huggingface_hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypedDict


class Results(Protocol):
    """What weights reached on a data set, such as a `RunResult` or an `EvaluationResult`."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """By name, such as ``seg/miou``; NaN where nothing could be scored."""

    @property
    def per_class(self) -> Mapping[str, Mapping[str, float]]:
        """Tables by metric and class name."""


class PushOptions(TypedDict, total=False):
    """Options of an upload, as huggingface_hub's ``push_to_hub`` has them."""

    private: bool
    token: str
    branch: str
    create_pr: bool
    commit_message: str
    ignore_patterns: str | list[str]


class LoadOptions(TypedDict, total=False):
    """Options of a download, as huggingface_hub's ``from_pretrained`` has them."""

    revision: str
    token: str | bool
    cache_dir: str | Path
    force_download: bool
    local_files_only: bool
