"""Images a second of the loader against torchvision.transforms.v2 and bare albumentations, on the same files.

    python benchmarks/data.py [--root FOLDER] [--size 256] [--batch 16] [--level heavy] [--workers 0 1 2] [--repeats 5]

Each pipeline reads JPEG, mask and boxes of a folder in Pascal VOC's layout, flips, warps and changes colours as the
level says, and gives batches of images and masks and lists of boxes. The peers are written as their manuals do, with
the resize first: v2 on tensors that torchvision decodes, albumentations on arrays that OpenCV decodes. Rows:

* ``mtvision``: from the files; ``cached``: from the cache of samples; ``writing the cache``: the pass that fills it;
* ``to float``: what the peers do beyond, since the model normalises here, is done after the loader too.

The pipelines take turns. Medians of whole epochs are compared, in wall seconds and, without workers, in CPU seconds.
"""

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import mtvision as mtv
from mtvision.data.loading.training_reader import prepare_worker

Item = tuple[Any, Any, Any]
_COLOURS = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.02}


class Files(Dataset[Item]):
    """Image, mask and boxes of each file, through a function; what every pipeline outside of mtvision shares."""

    def __init__(self, data: mtv.data.VOC, transform: Callable[[Path, Path, np.ndarray, list[int]], Item]) -> None:
        self.data, self.transform = data, transform
        self.names = data.image_ids

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Item:
        root, name = self.data.root, self.names[index]
        boxes, labels = read_xml(root / "Annotations" / f"{name}.xml")
        image, mask = root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClass" / f"{name}.png"
        return self.transform(image, mask, boxes, labels)


def read_xml(path: Path) -> tuple[np.ndarray, list[int]]:
    objects = ElementTree.parse(path).getroot().findall("object")
    edges = ("xmin", "ymin", "xmax", "ymax")
    boxes = [[float(each.findtext(f"bndbox/{edge}", "0")) for edge in edges] for each in objects]
    array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    array[:, :2] -= 1
    return array, [0] * len(objects)


def torchvision_pipeline(size: int, level: str) -> Callable[[Path, Path, np.ndarray, list[int]], Item]:
    from torchvision import io, tv_tensors
    from torchvision.transforms import v2

    geometry = [v2.RandomAffine(15, (0.1, 0.1), (0.8, 1.2), (-5, 5, -5, 5), fill={tv_tensors.Mask: 255, "others": 0})]
    transform = v2.Compose(
        [
            v2.Resize((size, size), antialias=True),
            v2.RandomHorizontalFlip(),
            *([v2.RandomApply(geometry, 0.8)] if level == "heavy" else []),
            v2.RandomApply([v2.ColorJitter(**_COLOURS)], 0.8),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(),
            v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    def read(image: Path, mask: Path, boxes: np.ndarray, labels: list[int]) -> Item:
        picture = tv_tensors.Image(io.decode_image(str(image), mode="RGB"))
        sample = {
            "image": picture,
            "mask": tv_tensors.Mask(torch.from_numpy(np.array(Image.open(mask)))),
            "boxes": tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=picture.shape[1:]),
            "labels": torch.tensor(labels),
        }
        result = transform(sample)
        return result["image"], result["mask"], result["boxes"]

    return read


def albumentations_pipeline(size: int, level: str) -> Callable[[Path, Path, np.ndarray, list[int]], Item]:
    import albumentations

    shear, shift = {"x": (-5, 5), "y": (-5, 5)}, {"x": (-0.1, 0.1), "y": (-0.1, 0.1)}
    affine = albumentations.Affine(
        scale=(0.8, 1.2), translate_percent=shift, rotate=(-15, 15), shear=shear, fill_mask=255, p=0.8
    )
    colours = {name: (1 - limit, 1 + limit) if name != "hue" else (-limit, limit) for name, limit in _COLOURS.items()}
    transform = albumentations.Compose(
        [
            albumentations.Resize(size, size),
            albumentations.HorizontalFlip(p=0.5),
            *([affine] if level == "heavy" else []),
            albumentations.ColorJitter(**colours, p=0.8),
            albumentations.Normalize(),
        ],
        bbox_params=albumentations.BboxParams(format="pascal_voc", label_fields=["labels"], clip=True, min_width=1),
    )

    def read(image: Path, mask: Path, boxes: np.ndarray, labels: list[int]) -> Item:
        picture = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)
        result = transform(image=picture, mask=np.array(Image.open(mask)), bboxes=boxes, labels=labels)
        tensor = torch.from_numpy(result["image"].transpose(2, 0, 1))
        return tensor, torch.from_numpy(result["mask"].astype(np.int64)), torch.from_numpy(np.array(result["bboxes"]))

    return read


def joined(items: list[Item]) -> Item:
    images, masks, boxes = zip(*items, strict=True)
    return torch.stack(images), torch.stack(masks), list(boxes)


def peer_loader(files: Files, batch: int, workers: int) -> DataLoader[Item]:
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    return DataLoader(
        files, batch, shuffle=True, drop_last=True, collate_fn=joined, worker_init_fn=prepare_worker, **options
    )


def own_loader(config: mtv.Config, data: mtv.data.VOC) -> Iterable[Any]:
    return mtv.build_loader(config, data, training=True)


def to_float(batches: Iterable[mtv.Batch]) -> int:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    number = 0
    for batch in batches:
        number += len((batch.images.float() / 255 - mean) / std)
    return number


def count(batches: Iterable[Any]) -> int:
    return sum(len(batch.images if isinstance(batch, mtv.Batch) else batch[0]) for batch in batches)


def measured(epoch: Callable[[], int]) -> tuple[float, float]:
    """Return images a wall second and a CPU second of one epoch, of this process."""
    began, used = time.perf_counter(), _cpu_seconds()
    images = epoch()
    return images / (time.perf_counter() - began), images / max(_cpu_seconds() - used, 1e-9)


def _cpu_seconds() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def pipelines(
    data: mtv.data.VOC, options: argparse.Namespace, workers: int, cache: Path
) -> dict[str, Callable[[], int]]:
    """Return an epoch of each pipeline."""
    size, level, batch = options.size, options.level, options.batch
    config = mtv.Config(
        training={"batch_size": batch},
        data={"image_size": size, "augmentation_level": level, "num_workers": workers},
    )
    own, cached = own_loader(config, data), own_loader(config.replace({"data.cache": str(cache)}), data)
    peers = {
        "torchvision v2": peer_loader(Files(data, torchvision_pipeline(size, level)), batch, workers),
        "albumentations": peer_loader(Files(data, albumentations_pipeline(size, level)), batch, workers),
    }
    found: dict[str, Callable[[], int]] = {name: partial(count, loader) for name, loader in peers.items()}
    found["mtvision"] = lambda: count(own)
    found["mtvision, to float"] = lambda: to_float(own)
    found["mtvision cached"] = lambda: count(cached)
    found["mtvision cached, to float"] = lambda: to_float(cached)
    return found


def compare(data: mtv.data.VOC, options: argparse.Namespace, workers: int) -> dict[str, dict[str, float]]:
    """Return images a second of each pipeline with a number of workers, and the ratio to torchvision's."""
    with tempfile.TemporaryDirectory() as folder:
        config = mtv.Config(data={"image_size": options.size, "num_workers": workers, "cache": folder})
        began = time.perf_counter()
        own_loader(config, data)
        cold = len(data) / (time.perf_counter() - began)
        runs = pipelines(data, options, workers, Path(folder))
        speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for run in runs.values():
            run()  # warm: files in the page cache, workers started
        for _ in range(options.repeats):
            for name, run in runs.items():
                speeds[name].append(measured(run))
    wall = {name: statistics.median(each[0] for each in values) for name, values in speeds.items()}
    cpu = {name: statistics.median(each[1] for each in values) for name, values in speeds.items()}
    rows = {
        name: {
            "images/s": wall[name],
            "x torchvision": wall[name] / wall["torchvision v2"],
            "x torchvision (CPU)": cpu[name] / cpu["torchvision v2"] if workers == 0 else float("nan"),
        }
        for name in runs
    }
    return {**rows, "writing the cache": {"images/s": cold, "x torchvision": cold / wall["torchvision v2"]}}


def enlarged(source: Path, folder: Path, size: tuple[int, int]) -> Path:
    """Copy a VOC folder with all images, masks and boxes at one size (width, height), as Pascal VOC's own are."""
    shutil.copytree(source, folder)
    for path in (folder / "JPEGImages").glob("*.jpg"):
        Image.open(path).convert("RGB").resize(size).save(path, quality=90)
    for name in ("SegmentationClass", "SegmentationObject"):
        for path in (folder / name).glob("*.png"):
            Image.open(path).resize(size, Image.Resampling.NEAREST).save(path)
    for path in (folder / "Annotations").glob("*.xml"):
        _rescale_xml(path, size)
    return folder


def _rescale_xml(path: Path, size: tuple[int, int]) -> None:
    tree = ElementTree.parse(path)
    root = tree.getroot()
    old = [int(root.findtext(f"size/{side}", "1")) for side in ("width", "height")]
    for element in root.findall("object"):
        values = {}
        for edge in ("xmin", "ymin", "xmax", "ymax"):
            axis = "xy".index(edge[0])
            values[edge] = min(
                max(round(float(element.findtext(f"bndbox/{edge}", "1")) * size[axis] / old[axis]), 1), size[axis]
            )
        if values["xmax"] <= values["xmin"] or values["ymax"] <= values["ymin"]:
            root.remove(element)
            continue
        for edge, value in values.items():
            element.find(f"bndbox/{edge}").text = str(value)  # type: ignore[union-attr]
    tree.write(path)


def report(results: Mapping[int, Mapping[str, Mapping[str, float]]]) -> None:
    for workers, rows in results.items():
        print(f"\n{workers} workers{'':<20} images/s   x torchvision   the same in CPU seconds")
        for name, row in rows.items():
            cpu = row.get("x torchvision (CPU)", float("nan"))
            print(f"  {name:<28} {row['images/s']:7.0f} {row['x torchvision']:13.2f} {cpu:17.2f}".replace("nan", "   "))


def main(options: argparse.Namespace) -> dict[int, dict[str, dict[str, float]]]:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        root = enlarged(options.root, Path(folder) / "devkit", (500, 375)) if options.enlarge else options.root
        data = mtv.data.VOC(root, "train")
        print(f"{len(data)} images -> {options.size} px, batches of {options.batch}, '{options.level}'")
        results = {workers: compare(data, options, workers) for workers in options.workers}
    report(results)
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=1))
    return results


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, required=True, help="folder in VOC's layout, every image with both annotations"
    )
    parser.add_argument("--enlarge", action="store_true", help="bring all images to 500 x 375 first, VOC's usual size")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--level", choices=["basic", "heavy"], default="heavy")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(parsed())
