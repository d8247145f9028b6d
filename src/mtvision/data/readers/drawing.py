"""What the generated shapes look like: outlines without antialiasing, textured backgrounds, colours around a hue."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Size: TypeAlias = tuple[int, int]
Floats: TypeAlias = NDArray[np.float32]

NAMES = ("disc", "square", "triangle", "star", "ring")

_HUES = 180  # OpenCV's hue circle
_HUE_JITTER = 8.0  # standard deviation; neighbouring classes are 36 apart, so hue alone does not tell them for certain


def draw_outline(kind: int, size: Size, centre: NDArray[np.float64], radius: float, angle: float) -> NDArray[np.bool_]:
    """Return the pixels ``(H, W)`` of one shape.

    Args:
        kind: index in `NAMES`.
        size: ``(H, W)`` of the canvas.
        centre: ``(x, y)`` in pixels.
        radius: of the circle around the shape, in pixels.
        angle: rotation in radians.
    """
    import cv2

    canvas = np.zeros(size, dtype=np.uint8)
    cv2.fillPoly(canvas, [_vertices(kind, centre, radius, angle)], color=1)
    if NAMES[kind] == "ring":
        cv2.fillPoly(canvas, [_vertices(kind, centre, 0.5 * radius, angle)], color=0)
    return canvas.astype(np.bool_)


def _vertices(kind: int, centre: NDArray[np.float64], radius: float, angle: float) -> NDArray[np.int32]:
    count = {"disc": 40, "ring": 40, "square": 4, "triangle": 3, "star": 10}[NAMES[kind]]
    radii = np.full(count, radius, dtype=np.float64)
    if NAMES[kind] == "star":
        radii[1::2] *= 0.45
    angles = angle + np.arange(count) * (2 * np.pi / count)
    points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (V, 2)
    return np.asarray(np.round(points), dtype=np.int32)


def paint_background(size: Size, rng: "np.random.Generator") -> Floats:
    """Return a textured background ``(H, W, 3)`` in [0, 255]: two muted colours, blended by a pattern, with grain."""
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))](size, rng)
    first, second = (_colour(rng.uniform(0, _HUES), rng.uniform(0, 0.45), rng.uniform(0.15, 0.85)) for _ in range(2))
    grain = rng.standard_normal((*size, 1), dtype=np.float32) * rng.uniform(2, 10)
    return np.asarray(first + pattern[..., None] * (second - first) + grain, dtype=np.float32)


def paint_object(kind: int, pixels: NDArray[np.bool_], rng: "np.random.Generator") -> Floats:
    """Return colours ``(P, 3)`` in [0, 255] for the P pixels of an object: its kind's hue, jittered and textured."""
    hue = kind * _HUES / len(NAMES) + rng.normal(0, _HUE_JITTER)
    colour = _colour(hue % _HUES, rng.uniform(0.45, 1), rng.uniform(0.45, 1))
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))](pixels.shape, rng)[pixels] - 0.5
    grain = rng.standard_normal(len(pattern), dtype=np.float32) * 0.04
    return np.asarray(colour * (1 + 0.35 * pattern + grain)[:, None], dtype=np.float32)


def _smooth_noise(size: Size, rng: "np.random.Generator") -> Floats:
    import cv2

    cells = rng.random((int(rng.integers(3, 12)), int(rng.integers(3, 12))), dtype=np.float32)
    return np.asarray(np.clip(cv2.resize(cells, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 1), dtype=np.float32)


def _gradient(size: Size, rng: "np.random.Generator") -> Floats:
    along = _position_along(size, rng.uniform(0, 2 * np.pi))
    return np.asarray((along - along.min()) / max(float(np.ptp(along)), 1e-6), dtype=np.float32)


def _stripes(size: Size, rng: "np.random.Generator") -> Floats:
    along = _position_along(size, rng.uniform(0, 2 * np.pi))
    phase = 2 * np.pi * (along / rng.uniform(5, 30) + rng.random())
    return np.asarray(0.5 + 0.5 * np.sin(phase), dtype=np.float32)


def _checks(size: Size, rng: "np.random.Generator") -> Floats:
    angle, period = rng.uniform(0, 2 * np.pi), rng.uniform(6, 24)
    across = [np.floor(_position_along(size, angle + turn) / period) for turn in (0, np.pi / 2)]
    return np.asarray((across[0] + across[1]) % 2, dtype=np.float32)


def _position_along(size: Size, angle: float) -> Floats:
    rows, columns = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)
    return np.asarray(rows[:, None] * np.float32(np.sin(angle)) + columns * np.float32(np.cos(angle)), dtype=np.float32)


def _colour(hue: float, saturation: float, value: float) -> Floats:
    """Return RGB in [0, 255] of a hue in [0, 180) and fractions."""
    offsets = (np.array([5.0, 3.0, 1.0]) + hue / (_HUES / 6)) % 6
    parts = np.clip(np.minimum(offsets, 4 - offsets), 0, 1)
    return np.asarray(255 * value * (1 - saturation * parts), dtype=np.float32)


_PATTERNS: tuple[Callable[[Size, "np.random.Generator"], Floats], ...] = (_smooth_noise, _gradient, _stripes, _checks)
