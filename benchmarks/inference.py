"""What it costs to segment and detect in an image, end to end, beside other libraries' models on the same backbone.

    python benchmarks/inference.py [--size 256] [--batches 1 8] [--repeats 9] [--backbone resnet18] [--light NAME]

From a decoded image, uint8 375 x 500, to what one wants of it: a class for each pixel at the image's own size, and
boxes with scores and labels in its pixels. That is resizing to the network's input, normalising, forward, decoding,
suppression and resizing of the logits. Ours is ``model.predict``; the peers (``peers.py``) are called as their manuals
do. All networks have random weights. What an untrained detector finds depends on chance and decides how much
suppression has to do, so each detector's threshold is set to let the same number of candidates through in an image.

``eager`` is what users get without a switch. ``weights channels-last`` is the model after
``model.to(memory_format=torch.channels_last)``, which spares the copy of the weights into the format of the features;
``compiled`` is ``model.compile()``; ONNX Runtime and OpenVINO run the exported forward pass between our own pre- and
postprocessing. The outputs of each are compared with eager's first.

``--ultralytics`` measures that library's nano models for detection and segmentation too, where it is installed, against
ours on a light backbone. It is AGPL: nothing of mtvision depends on it.

The second table says where our time goes.
"""

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import inference_runtimes as runtimes
import numpy as np
import peers
import torch
import torch.nn.functional as F
from candidates import equal_candidates
from common import Seconds, measured
from numpy.typing import NDArray
from reporting import Row, Table, report
from torch import Tensor, nn

import mtvision as mtv
from mtvision.data.augmentation.presets import resize_only
from mtvision.data.images import as_sample
from mtvision.data.loading.collating import collate
from mtvision.layers.normalization import IMAGENET_MEAN, IMAGENET_STD

Images = Sequence[NDArray[np.uint8]]
Predict = Callable[[Images], object]

OURS, TWO = "mtvision, eager", "two models: smp FPN + torchvision FCOS"
NUM_CLASSES = {"seg": 21, "det": 20}
CANDIDATES = 200
"""Boxes an image that are above the threshold, before suppression."""
_SIZE = (375, 500)


def main(
    size: int = 256,
    batches: Sequence[int] = (1, 8),
    repeats: int = 9,
    backbone: str = "resnet18",
    light: str | None = "mobilenetv4_conv_small",
    ultralytics: bool = False,
    output: Path | None = None,
) -> list[Row]:
    """Measure, print and return a row for each model."""
    if ultralytics and importlib.util.find_spec("ultralytics") is None:
        raise SystemExit("ultralytics is not installed: leave --ultralytics out, or install it (AGPL) beside mtvision")
    images = pictures(max(batches))
    model = own_model(backbone, size, images[0])
    notes = [] if peers.has_smp() else [peers.MISSING]
    with tempfile.TemporaryDirectory() as folder:
        predictors: dict[str, Predict] = {OURS: model.predict, **peer_predictors(backbone, size, images[0])}
        forms, problems = runtimes.other_forms(model, size, Path(folder))
        predictors |= {f"mtvision, {name}": form.predict for name, form in forms.items()}
        if light:
            predictors[f"mtvision, {light}"] = own_model(light, size, images[0]).predict
        if ultralytics:
            predictors |= ultralytics_predictors(size)
        by_batch = {batch: times(predictors, images[:batch], repeats) for batch in batches}
    rows = [row_of(name, by_batch) for name in predictors]
    what = f"{size} x {size} of images 375 x 500, {torch.get_num_threads()} threads, median of {repeats}"
    tables = [
        Table(f"Inference: {backbone}, {what}", rows, [*notes, *problems]),
        Table(f"Where the time of '{OURS}' goes: {backbone}, {what}", part_rows(model, images, batches, repeats)),
    ]
    report("inference", tables, output, "segmentation-models-pytorch", "onnxruntime", "openvino", "ultralytics")
    return rows


def pictures(number: int) -> Images:
    """Return images of generated shapes."""
    config = mtv.Config(data={"dataset": {"name": "shapes", "num_images": number, "image_size": list(_SIZE)}})
    data = mtv.build_dataset(config, "val")
    return [data[index % len(data)].image for index in range(number)]


def own_model(backbone: str, size: int, image: NDArray[np.uint8]) -> mtv.MultiTaskModel:
    """Return a model of the defaults in evaluation mode, its threshold set."""
    config = mtv.Config(model={"backbone": backbone, "num_classes": NUM_CLASSES}, data={"image_size": size})
    model = mtv.build_model(config).eval()
    task: Any = model.task("det")
    kept = task.selection

    def found(threshold: float) -> int:
        task.selection = runtimes.unlimited(kept, threshold)
        return len(model.predict(image)[0]["det"]["scores"])

    threshold = equal_candidates(found, CANDIDATES)
    task.selection = runtimes.with_threshold(kept, threshold)
    return model


def peer_predictors(backbone: str, size: int, image: NDArray[np.uint8]) -> dict[str, Predict]:
    """Return the peers by name, and two of them after each other."""
    found: dict[str, Predict] = {}
    for name in peers.SEGMENTERS if peers.has_smp() else ():
        found[name] = segment_with(peers.segmenter(name, backbone, NUM_CLASSES["seg"]).eval(), size)
    for name in peers.DETECTORS if backbone.startswith("resnet") else ():
        found[name] = detect_with(peers.detector(name, backbone, NUM_CLASSES["det"], size).eval(), size, image)
    if {"smp FPN", "torchvision FCOS"} <= found.keys():
        both = found["smp FPN"], found["torchvision FCOS"]
        found[TWO] = lambda images: [predict(images) for predict in both]
    return found


def segment_with(network: nn.Module, size: int) -> Predict:
    """Return the masks of images as users of segmentation_models.pytorch write it."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

    @torch.inference_mode()
    def predict(images: Images) -> list[Tensor]:
        batch = torch.stack([(_resized(image, size) - mean) / std for image in images])
        logits = network(batch)
        sized = zip(logits, images, strict=True)
        return [F.interpolate(each[None], image.shape[:2], mode="bilinear").argmax(1)[0] for each, image in sized]

    return predict


def detect_with(network: nn.Module, size: int, image: NDArray[np.uint8]) -> Predict:
    """Return the boxes in images by a torchvision detector, whose transform gets them at the size of the network."""
    detector: Any = network
    limits = detector.score_thresh, detector.nms_thresh, detector.detections_per_img, detector.topk_candidates

    @torch.inference_mode()
    def predict(images: Images) -> list[dict[str, Tensor]]:
        found: list[dict[str, Tensor]] = detector([_resized(image, size) for image in images])
        for each, picture in zip(found, images, strict=True):
            height, width = picture.shape[:2]
            each["boxes"] = each["boxes"] * torch.tensor([width, height, width, height]) / size
        return found

    def number(threshold: float) -> int:
        detector.score_thresh, detector.nms_thresh = threshold, 2.0
        detector.detections_per_img = detector.topk_candidates = 10**6
        return len(predict([image])[0]["scores"])

    threshold = equal_candidates(number, CANDIDATES)
    _, detector.nms_thresh, detector.detections_per_img, detector.topk_candidates = limits
    detector.score_thresh = threshold
    return predict


def ultralytics_predictors(size: int) -> dict[str, Predict]:
    """Return ultralytics' nano detector and semantic segmenter, after each other."""
    threads = torch.get_num_threads()
    from ultralytics import YOLO

    torch.set_num_threads(threads)  # its import leaves one core out
    detector, segmenter = YOLO("yolo26n.yaml"), YOLO("yolo26n-sem.yaml")

    def predict(images: Images) -> list[object]:
        turned = [np.ascontiguousarray(image[..., ::-1]) for image in images]  # it wants BGR
        options = {"imgsz": size, "verbose": False, "batch": len(turned), "rect": False}
        return [detector.predict(turned, conf=0.001, max_det=100, **options), segmenter.predict(turned, **options)]

    return {"ultralytics yolo26n + yolo26n-sem": predict}


def times(predictors: Mapping[str, Predict], images: Images, repeats: int) -> dict[str, Seconds]:
    """Return the medians of each predictor on a batch."""
    steps = {name: (lambda predict=predict: predict(images)) for name, predict in predictors.items()}
    return measured(steps, repeats, warm_up=3)


def row_of(name: str, by_batch: Mapping[int, Mapping[str, Seconds]]) -> Row:
    row: dict[str, str | float | None] = {"model": name}
    for batch, seconds in by_batch.items():
        row[f"b{batch}: CPU ms"] = seconds[name].cpu * 1000
        row[f"b{batch}: wall ms"] = seconds[name].wall * 1000
        row[f"b{batch}: x ours"] = seconds[name].wall / seconds[OURS].wall
    return row


PARTS = ("preprocess", "backbone", "neck", "segmentation head", "detection head", "masks", "boxes")


def part_rows(model: mtv.MultiTaskModel, images: Images, batches: Sequence[int], repeats: int) -> list[Row]:
    """Return the milliseconds of each part of our own inference, and its share of their sum, by batch."""
    with torch.no_grad():
        found = {batch: measured(parts_of(model, images[:batch]), repeats) for batch in batches}
    rows = []
    for part in PARTS:
        row: dict[str, str | float | None] = {"part": part}
        for batch, seconds in found.items():
            row[f"b{batch}: wall ms"] = seconds[part].wall * 1000
            row[f"b{batch}: share"] = seconds[part].wall / sum(each.wall for each in seconds.values())
        rows.append(row)
    return list[Row](rows)


def parts_of(model: mtv.MultiTaskModel, images: Images) -> dict[str, Callable[[], object]]:
    """Return the parts of `MultiTaskModel.predict`, each on the results of the parts before."""
    resize, samples = resize_only(model.image_size or _SIZE), [as_sample(image) for image in images]
    batch = collate([resize(sample, 0) for sample in samples]).images
    size, sizes = (batch.shape[-2], batch.shape[-1]), [sample.original_size for sample in samples]

    def backbone() -> Any:
        return model.backbone(model.normalization(batch.contiguous(memory_format=torch.channels_last)))

    features = backbone()
    shared = features if model.neck is None else model.neck(features)
    seg, det = model.task("seg"), model.task("det")
    given = {name: shared if name in model.neck_tasks else features for name in ("seg", "det")}
    masks, boxes = seg(given["seg"], size), det(given["det"], size)
    parts: list[Callable[[], object]] = [
        lambda: collate([resize(as_sample(image), 0) for image in images]),
        backbone,
        lambda: model.neck(features) if model.neck is not None else None,
        lambda: seg(given["seg"], size),
        lambda: det(given["det"], size),
        lambda: seg.postprocess(masks, sizes),
        lambda: det.postprocess(boxes, sizes),
    ]
    return dict(zip(PARTS, parts, strict=True))


def _resized(image: NDArray[np.uint8], size: int) -> Tensor:
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(tensor, (size, size), mode="bilinear", antialias=True)[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--light", default="mobilenetv4_conv_small", metavar="BACKBONE")
    parser.add_argument("--ultralytics", action="store_true")
    parser.add_argument("--output", type=Path)
    main(**vars(parser.parse_args()))
