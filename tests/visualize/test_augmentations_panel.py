"""The panel of augmentations shows what training sees."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mtvision as mtv
from mtvision.visualize.draw import draw
from mtvision.visualize.panel import truth_of

SIZE, GAP, CAPTION = 64, 4, 18


def cell(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = CAPTION + row * (SIZE + GAP), GAP + column * (SIZE + GAP)
    return picture[top : top + SIZE, left : left + SIZE]


def test_each_cell_is_the_picture_of_its_epoch(tmp_path: Path):
    data = mtv.data.Shapes("train", num_images=9, image_size=SIZE)
    path = mtv.visualize.augmentations(
        data, "heavy", tmp_path / "deep/panel.png", mixes=["mosaic"], num_images=3, num_draws=2, image_size=SIZE, seed=7
    )
    picture = np.asarray(Image.open(path))
    assert picture.shape == (CAPTION + GAP + 3 * (SIZE + GAP), GAP + 3 * (SIZE + GAP), 3)
    config = {"system": {"seed": 7}, "data": {"augmentation_level": "heavy", "mixes": ["mosaic"], "image_size": SIZE}}
    for row, index in enumerate((0, 4, 8)):
        stored = data[index]
        assert np.array_equal(cell(picture, row, 0), draw(stored.image, truth_of(stored), data.classes))
        for epoch in range(2):
            batches = mtv.build_loader({**config, "training": {"batch_size": 9}}, data, training=True)
            batches.set_epoch(epoch)
            (batch,) = batches
            place = batch.image_ids.index(stored.image_id)
            image = batch.images[place].permute(1, 2, 0).numpy()
            truth = {"seg": batch.targets["seg"][place], "det": batch.targets["det"][place]}
            assert np.array_equal(cell(picture, row, 1 + epoch), draw(image, truth, data.classes))


def test_an_unknown_preset_is_named(tmp_path: Path):
    data = mtv.data.Shapes("train", num_images=2, image_size=SIZE)
    with pytest.raises(mtv.ConfigError, match=r"data\.augmentation_level.*Did you mean 'heavy'"):
        mtv.visualize.augmentations(data, "heavi", tmp_path / "a.png")
    with pytest.raises(ValueError, match="num_images"):
        mtv.visualize.augmentations(data, "heavy", tmp_path / "a.png", num_images=0)
