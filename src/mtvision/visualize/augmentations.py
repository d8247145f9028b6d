"""What augmentation does to a data set's images, as a panel that a person can check."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtvision.config import Config, as_config
from mtvision.data.checking.check import checked_reader
from mtvision.data.loading.loader import training_samples
from mtvision.data.loading.sampler import SampleKey
from mtvision.types import Sample
from mtvision.visualize.draw import draw
from mtvision.visualize.panel import truth_of

_GAP, _CAPTION = 4, 18


def augmentations(
    dataset: Sequence[Sample],
    preset: Any,
    path: str | Path,
    *,
    mixes: Sequence[Any] = (),
    num_images: int = 6,
    num_draws: int = 5,
    image_size: int | tuple[int, int] = 256,
    seed: int = 0,
) -> Path:
    """Write a PNG with a row an image: as it is stored, then as training sees it in the first epochs, with its truth.

    Masks, boxes and names are drawn; void is grey. It is the very pipeline of training: the same seed, epoch and index
    give the same picture there.

    Args:
        dataset: of samples; ``num_images`` of it at equal distances are shown.
        preset: what ``data.augmentation_level`` takes: a name, a mapping with ``name`` and options, an albumentations
            ``Compose``.
        path: of the PNG; its folder is made if it is missing.
        mixes: what ``data.mixes`` takes, such as ``["mosaic"]``.
        num_images: rows.
        num_draws: columns beside the original.
        image_size: that training would have, one number or ``(H, W)``.
        seed: of the run.

    Returns:
        ``path``.

    Raises:
        ConfigError: if the preset or a mix is unknown or an option is wrong.
        DataError: if an image cannot be read, or the data set is empty.
        ValueError: if no image or no draw is asked for.

    Example:
        >>> import tempfile
        >>> from mtvision.data import Shapes
        >>> folder = Path(tempfile.mkdtemp())
        >>> augmentations(Shapes("train", num_images=4, image_size=64), "heavy", folder / "heavy.png").name
        'heavy.png'
    """
    if num_images < 1 or num_draws < 1:
        raise ValueError(f"num_images and num_draws must be at least 1, got {num_images} and {num_draws}")
    settings: Mapping[str, Any] = {"augmentation_level": preset, "mixes": list(mixes), "image_size": image_size}
    config = as_config({"data": settings, "system": {"seed": seed}})
    samples = training_samples(config, dataset)
    classes, read = getattr(dataset, "classes", None), checked_reader(dataset)
    rows = []
    for index in np.linspace(0, len(dataset) - 1, min(num_images, len(dataset))).round().astype(int).tolist():
        drawn = [samples[SampleKey(epoch, index)].sample for epoch in range(num_draws)]
        rows.append([draw(each.image, truth_of(each), classes) for each in (read(index), *drawn) if each is not None])
    return _write(rows, config, Path(path).expanduser())


def _write(rows: Sequence[Sequence[Any]], config: Config, path: Path) -> Path:
    from PIL import Image, ImageDraw

    height, width = config.data.image_size
    columns = max(map(len, rows))
    canvas = Image.new(
        "RGB", (columns * (width + _GAP) + _GAP, len(rows) * (height + _GAP) + _CAPTION + _GAP), color="white"
    )
    caption = ImageDraw.Draw(canvas)
    for number, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            image = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
            canvas.paste(image, (_GAP + column * (width + _GAP), _CAPTION + number * (height + _GAP)))
    parts = [str(config.data.augmentation_level.name), *(mix.name for mix in config.data.mixes)]
    caption.text((_GAP, 3), "stored", fill="black")
    caption.text((2 * _GAP + width, 3), " + ".join(parts) + ", epochs 1, 2, ...", fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path)
    return path
