"""Segment and detect in images with a trained run; writes the pictures beside each other into a folder.

python examples/predict.py runs/demo photo.jpg other.png --out predictions --flip
"""

import argparse
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from PIL import Image

import mtvision as mtv


def main(
    run: Path, images: Sequence[Path], out: Path, score_threshold: float = 0.3, *, flip: bool = False
) -> list[Path]:
    model = mtv.load_model(run)
    predictor = mtv.Predictor(model, flip=True, fusion="nms") if flip else model
    predictions = predictor.predict(images, score_threshold=score_threshold)
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for path, prediction in zip(images, predictions, strict=True):
        picture = mtv.visualize.draw(path, prediction, model.classes, score_threshold=score_threshold)
        written.append(free_path(out, path.stem, written))
        Image.fromarray(picture).save(written[-1])
        found = len(prediction["det"]["boxes"]) if "det" in prediction else 0
        print(f"{path}: {found} objects -> {written[-1]}")
    return written


def free_path(folder: Path, stem: str, taken: Sequence[Path]) -> Path:
    names = (f"{stem}.png" if number == 1 else f"{stem}-{number}.png" for number in count(1))
    return next(folder / name for name in names if folder / name not in taken)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("predictions"))
    parser.add_argument("--score-threshold", type=float, default=0.3)
    parser.add_argument("--flip", action="store_true", help="also show each image mirrored, and merge both predictions")
    options = parser.parse_args()
    try:
        main(options.run, options.images, options.out, options.score_threshold, flip=options.flip)
    except mtv.MtvisionError as error:
        raise SystemExit(f"error: {error}") from None
