"""Write the picture of the home page: what the model of ``make demo`` says of the first images of its test split.

```
make demo
python docs/write_predictions.py runs/demo
```
"""

import argparse
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

import mtvision as mtv

PICTURE: Final = Path(__file__).with_name("images") / "predictions.jpg"
SIDE: Final = 300
"""Pixels of an image in the picture; they have 128, too few for names and scores."""


def picture(run: Path, columns: int = 4) -> Image.Image:
    """Return images in the first row, the same with predictions in the second, none of them chosen."""
    model = mtv.load_model(run)
    data = mtv.build_dataset(run / "config.yaml", "test")
    images = [np.asarray(Image.fromarray(data[index].image).resize((SIDE, SIDE))) for index in range(columns)]
    drawn = [
        mtv.visualize.draw(image, prediction, model.classes)
        for image, prediction in zip(images, model.predict(images), strict=True)
    ]
    return Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in (images, drawn)]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    picture(parser.parse_args().run).save(PICTURE, quality=88)
