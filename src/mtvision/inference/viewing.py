"""In which views an image is shown to the network."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from mtvision.errors import ConfigError, choices_hint
from mtvision.inference.windows import windows_of
from mtvision.tasks.blending import Size
from mtvision.tasks.box_fusion import Fusion
from mtvision.tasks.views import View


@dataclass(frozen=True)
class Viewing:
    """In which views an image is shown to the network; see `Predictor`."""

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    window: Size | None = None
    overlap: float = 0.25
    fusion: Fusion = "weighted_boxes"

    def __post_init__(self) -> None:
        """Check what was given.

        Raises:
            ConfigError: naming all that cannot be used.
        """
        problems = [
            *_scale_problems(self.scales),
            *_window_problems(self.window),
            *([] if 0 <= self.overlap < 1 else [f"overlap: expected a number in [0, 1), got {self.overlap}"]),
        ]
        if self.fusion not in get_args(Fusion):
            problems.append(f"fusion: there is no '{self.fusion}'{choices_hint(str(self.fusion), get_args(Fusion))}")
        if problems:
            raise ConfigError(problems)

    @property
    def flips(self) -> tuple[bool, ...]:
        """Whether an image is mirrored, for each time that it is shown."""
        return (False, True) if self.flip else (False,)

    @property
    def ways(self) -> int:
        """Number of combinations of scale and flip."""
        return len(self.scales) * len(self.flips)

    def of(self, image: int, size: Size) -> list[View]:
        """Return a view for each window of an image ``size`` (H, W), at the first scale and upright."""
        windows = windows_of(size, self.window, self.overlap)
        return [View(image, region, self.scales[0]) for region in windows]


def _scale_problems(scales: tuple[float, ...]) -> Iterator[str]:
    if not scales:
        yield "scales: at least one is needed"
    yield from (
        f"scales: expected numbers above 0, got {scale}" for scale in scales if not (math.isfinite(scale) and scale > 0)
    )
    if len(set(scales)) < len(scales):
        yield f"scales: expected different numbers, got {', '.join(map(str, scales))}"


def _window_problems(window: Size | None) -> Iterator[str]:
    if window is None:
        return
    if len(window) != 2 or any(not isinstance(side, int) or side < 1 for side in window):
        yield f"window: expected (height, width) in whole pixels, at least 1, got {window}"
