"""Samples, data sets, preprocessing, augmentation and loaders; the import registers them, without image libraries."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtvision.data.augmentation import augment, copy_paste, mosaic  # noqa: F401 - the import fills their registries
from mtvision.data.augmentation.mixing import Mix
from mtvision.data.augmentation.presets import resize_only
from mtvision.data.base import SampleDataset, Subset
from mtvision.data.checking.check import check, check_splits, sample_problems
from mtvision.data.checking.check_report import CheckReport, Finding
from mtvision.data.checking.exclusion import exclude
from mtvision.data.classes import classes_from_names, read_classes, voc_classes
from mtvision.data.loading.augmented import AugmentedDataset, Recipe
from mtvision.data.loading.collating import collate
from mtvision.data.loading.loader import build_dataset, build_loader
from mtvision.data.loading.sampler import KeyedSampler, SampleKey, TransformedDataset, sample_seed
from mtvision.data.preprocessing import Normalization, compute_statistics, fingerprint
from mtvision.data.readers.coco import Coco
from mtvision.data.readers.coco_panoptic import CocoPanoptic
from mtvision.data.readers.folder import Folder
from mtvision.data.readers.shapes import Shapes
from mtvision.data.readers.torchvision import from_torchvision
from mtvision.data.readers.voc import VOC
from mtvision.data.readers.yolo import Yolo
from mtvision.data.statistics.annotation_table import AnnotationTable, annotation_table
from mtvision.types import Classes, Sample

if TYPE_CHECKING:
    from mtvision.data.statistics.stats import stats
    from mtvision.data.writers.results_coco import write_coco_results, write_coco_segmentation_results
    from mtvision.data.writers.results_voc import write_voc_results
    from mtvision.data.writers.write_coco import write_coco
    from mtvision.data.writers.write_voc import write_voc

_LATE = {
    "stats": "mtvision.data.statistics.stats",
    "write_coco": "mtvision.data.writers.write_coco",
    "write_coco_results": "mtvision.data.writers.results_coco",
    "write_coco_segmentation_results": "mtvision.data.writers.results_coco",
    "write_voc": "mtvision.data.writers.write_voc",
    "write_voc_results": "mtvision.data.writers.results_voc",
}
"""What no training needs is imported when it is first asked for."""

__all__ = [
    "VOC",
    "AnnotationTable",
    "AugmentedDataset",
    "CheckReport",
    "Classes",
    "Coco",
    "CocoPanoptic",
    "Finding",
    "Folder",
    "KeyedSampler",
    "Mix",
    "Normalization",
    "Recipe",
    "Sample",
    "SampleDataset",
    "SampleKey",
    "Shapes",
    "Subset",
    "TransformedDataset",
    "Yolo",
    "annotation_table",
    "build_dataset",
    "build_loader",
    "check",
    "check_splits",
    "classes_from_names",
    "collate",
    "compute_statistics",
    "exclude",
    "fingerprint",
    "from_torchvision",
    "read_classes",
    "resize_only",
    "sample_problems",
    "sample_seed",
    "stats",
    "voc_classes",
    "write_coco",
    "write_coco_results",
    "write_coco_segmentation_results",
    "write_voc",
    "write_voc_results",
]


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module 'mtvision.data' has no attribute '{name}'")
