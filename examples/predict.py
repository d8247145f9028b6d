"""Segment and detect in images with a trained run; writes the pictures beside each other into a folder.

python examples/predict.py runs/demo photo.jpg other.png --out predictions
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

import mtvision as mtv


def main(run: Path, images: Sequence[Path], out: Path, score_threshold: float = 0.3) -> list[Path]:
    model = mtv.load_model(run)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for path, prediction in zip(images, model.predict(list(images)), strict=True):
        picture = mtv.visualize.draw(Image.open(path), prediction, model.classes, score_threshold=score_threshold)
        written.append(out / f"{path.stem}.png")
        Image.fromarray(picture).save(written[-1])
        found = int((prediction["det"]["scores"] >= score_threshold).sum()) if "det" in prediction else 0
        print(f"{path}: {found} objects -> {written[-1]}")
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("predictions"))
    parser.add_argument("--score-threshold", type=float, default=0.3)
    options = parser.parse_args()
    main(options.run, options.images, options.out, options.score_threshold)
