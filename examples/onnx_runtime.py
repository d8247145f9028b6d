"""Predict with a file of `mtv.export(model, "model.onnx")`: no torch, no mtvision.

python examples/onnx_runtime.py model.onnx photo.jpg other.jpg --out predictions   (pip install onnxruntime pillow)
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def main(model: Path, images: Sequence[Path], out: Path, score_threshold: float = 0.3) -> list[list[str]]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["mtvision"])
    (height, width), names = about["image_size"], [output.name for output in session.get_outputs()]
    classes = about["tasks"]["det"]["classes"] or [str(label) for label in range(1000)]
    out.mkdir(parents=True, exist_ok=True)
    lines: list[list[str]] = []
    for path in images:
        photo = Image.open(path).convert("RGB")
        pixels = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR)).transpose(2, 0, 1)[None]
        found = dict(zip(names, session.run(names, {about["input_name"]: pixels}), strict=True))
        mask = Image.fromarray(found["seg_mask"][0].astype(np.uint8))
        mask.resize(photo.size, Image.Resampling.NEAREST).save(out / f"{path.stem}.png")
        boxes = found["det_boxes"][0] * np.tile(np.divide(photo.size, (width, height)), 2)  # x, y, x, y of the photo
        rows = range(int(found["det_count"][0]))  # the places behind are empty
        scores, labels = found["det_scores"][0], found["det_labels"][0]
        kept = [row for row in rows if scores[row] >= score_threshold]
        lines.append([f"{classes[labels[row]]} {scores[row]:.2f} {boxes[row].round(1).tolist()}" for row in kept])
        print(f"{path}: {lines[-1]}")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("predictions"))
    parser.add_argument("--score-threshold", type=float, default=0.3)
    main(**vars(parser.parse_args()))
