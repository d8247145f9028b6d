"""Samples, data sets, preprocessing, augmentation and loaders; the import registers them, without image libraries."""

from mtvision.data.augment import resize_only
from mtvision.data.base import SampleDataset, Subset
from mtvision.data.check import check, sample_problems
from mtvision.data.classes import classes_from_names, read_classes, voc_classes
from mtvision.data.coco import Coco
from mtvision.data.folder import Folder
from mtvision.data.loader import build_dataset, build_loader, collate
from mtvision.data.preprocessing import Normalization, compute_statistics, fingerprint
from mtvision.data.sampler import KeyedSampler, SampleKey, TransformedDataset, sample_seed
from mtvision.data.shapes import Shapes
from mtvision.data.stats import stats
from mtvision.data.torchvision import from_torchvision
from mtvision.data.voc import VOC
from mtvision.data.yolo import Yolo
from mtvision.types import Classes, Sample

__all__ = [
    "VOC",
    "Classes",
    "Coco",
    "Folder",
    "KeyedSampler",
    "Normalization",
    "Sample",
    "SampleDataset",
    "SampleKey",
    "Shapes",
    "Subset",
    "TransformedDataset",
    "Yolo",
    "build_dataset",
    "build_loader",
    "check",
    "classes_from_names",
    "collate",
    "compute_statistics",
    "fingerprint",
    "from_torchvision",
    "read_classes",
    "resize_only",
    "sample_problems",
    "sample_seed",
    "stats",
    "voc_classes",
]
