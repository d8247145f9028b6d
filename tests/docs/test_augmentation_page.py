"""The page on augmentation says what is true, and its code runs."""

import re
from pathlib import Path

import numpy as np

import mtvision as mtv
from mtvision.data.augmentation import presets

PAGE = (Path(__file__).parents[2] / "docs" / "augmentation.md").read_text()


def test_the_mix_of_ones_own_runs():
    block = next(text for text in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "MIXES.register" in text)
    scope = {"mtv": mtv, "np": np}
    try:
        exec(block, scope)
        cfg = scope["cfg"].replace({"data.image_size": 32, "training.batch_size": 4})
        data = mtv.data.Shapes("train", num_images=8, image_size=32)
        plain = list(mtv.build_loader(cfg.replace({"data.mixes": []}), data, training=True))
        mixed = list(mtv.build_loader(cfg, data, training=True))
        brighter = [
            (b.images >= a.images).all() and (b.images > a.images).any() for a, b in zip(plain, mixed, strict=True)
        ]
        assert all(brighter)
    finally:
        mtv.MIXES._factories.pop("brighter", None)


def test_every_level_mix_and_sampler_is_told():
    for registry in (mtv.AUGMENTATIONS, mtv.MIXES, mtv.SAMPLERS):
        names = set(registry.own_names()) - {"albumentations"}
        assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_the_numbers_in_the_table_are_those_of_the_code():
    heavy = next(line for line in PAGE.splitlines() if line.startswith("| `heavy`"))
    assert f"within {presets._DEGREES:g}°" in heavy
    assert f"scale {presets._SCALES[0]} to {presets._SCALES[1]}" in heavy
    assert f"shift within {presets._SHIFT:.0%}".replace("%", " %") in heavy
    assert f"shear within {presets._SHEAR_DEGREES:g}°" in heavy
    assert f"({presets._WARP})" in heavy
    robust = next(line for line in PAGE.splitlines() if line.startswith("| `robust`"))
    assert f"gamma {presets._GAMMAS[0]} to {presets._GAMMAS[1]} ({presets._LIGHT})" in robust
    assert f"gain {1 - presets._LIGHT_LIMIT} to {1 + presets._LIGHT_LIMIT}" in robust
