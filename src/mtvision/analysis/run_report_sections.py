"""What a run's report says, in its order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from mtvision.analysis import run_report_tables as tables
from mtvision.analysis.analysis import Analysis
from mtvision.analysis.run_report_cards import example_blocks, gallery_blocks
from mtvision.analysis.run_report_lessons import FEWEST_IMAGES, lessons
from mtvision.analysis.run_report_numbers import RunNumbers
from mtvision.analysis.run_report_pictures import RunPictures
from mtvision.config import Config
from mtvision.report.blocks import Block, Bullets, Code, Picture, Section, Text
from mtvision.report.numbers import counted

_FEW_IMAGES = 100
_MOST_NAMED = 12

_HOW_TO_READ = (
    "An image scores the mean of its tasks: mIoU over the classes in its truth or prediction, and F1 of its boxes at "
    "IoU 0.5, by the boxes that are used.",
    "The 95 % interval of a number of the data set is the bootstrap's over images, that of a share Wilson's, which "
    "takes cases as independent: those of one image are not quite, so it is rather too narrow.",
    "Types of error are TIDE's (Bolya et al. 2020). What is won without one holds if it alone is mended; the gains do "
    "not add up, and say what these images cost, not what others would.",
    "ECE is the mean difference of confidence and share that is right (Guo et al. 2017).",
    "A property that goes along with the score is no proof of a cause. A correlation is called shown at 5 % for all "
    "properties together.",
)


@dataclass(frozen=True)
class RunContent:
    """All that a run's report shows.

    Attributes:
        analysis: of the model.
        numbers: of it, with intervals.
        plots: files by name, see `write_run_plots`.
        pictures: of images and errors.
        config: of the run.
    """

    analysis: Analysis
    numbers: RunNumbers
    plots: Mapping[str, Path]
    pictures: RunPictures
    config: Config | None


def run_sections(content: RunContent) -> list[Section]:
    """Return the sections that have something to say.

    Args:
        content: of the report.
    """
    analysis = content.analysis
    sections = [
        Section("What one learns", _lessons(content)),
        Section("What was scored", _scored(content)),
        Section("Classes", list(tables.class_tables(analysis, content.numbers))),
        Section("Masks", [block for task in analysis.observations.masks for block in _masks(content, task)]),
        Section("Boxes", [block for task in analysis.boxes for block in _boxes(content, task)]),
        Section("Calibration", _calibration(content)),
        Section("Agreement of the tasks", _agreement(content)),
        Section("What goes along with the score", _properties(content)),
        Section("Slices", [tables.slices_table(analysis)] if "slices" in analysis.tables else []),
        Section("Worst and best images", gallery_blocks(content.analysis, content.pictures)),
        Section("Examples of errors", example_blocks(content.analysis, content.pictures)),
        Section("All images", [tables.image_table(content.analysis.images, content.pictures.thumbnails)]),
        Section("Training", _training(content)),
        Section("How to read it", [Bullets(_HOW_TO_READ)]),
    ]
    return [section for section in sections if section.blocks]


def _lessons(content: RunContent) -> list[Block]:
    found = lessons(content.analysis, content.numbers)
    return [Bullets(found)] if found else [Text("There is too little to tell anything beyond the numbers below.")]


def _scored(content: RunContent) -> list[Block]:
    blocks: list[Block] = [tables.metrics_table(content.analysis, content.numbers), Bullets(_data_lines(content))]
    warnings = _warnings(content.analysis)
    return [*blocks, *([Bullets(warnings, important=True)] if warnings else [])]


def _data_lines(content: RunContent) -> list[str]:
    analysis, config = content.analysis, content.config
    number = len(analysis.observations.image_ids)
    lines = [counted(number, "image")]
    for task, masks in analysis.observations.masks.items():
        present = int((masks.counts.true.sum(axis=0) > 0).sum())
        lines.append(
            f"{task}: {int(masks.counts.annotated.sum())} of them with a mask, {present} of "
            f"{len(masks.counts.confusion)} classes there (the background is one)"
        )
    for task, boxes in analysis.boxes.items():
        objects = boxes.objects
        kinds, difficult = len(np.unique(objects.labels[~objects.difficult])), int(objects.difficult.sum())
        lines.append(
            f"{task}: {int(boxes.observed.annotated.sum())} of them looked through for objects, "
            f"{counted(len(objects.labels) - difficult, 'object')} of {kinds} of {boxes.num_classes} classes, and "
            f"{difficult} difficult; boxes are used from the score {boxes.score_threshold:.2f} on"
        )
    if config is not None:
        lines.append(_model_line(config))
    return lines


def _model_line(config: Config) -> str:
    model, data = config.dump()["model"], config.dump()["data"]
    parts = [f"backbone {_name(model['backbone'])}"]
    parts += [
        f"{key.replace('_', ' ')} {_name(model[key])}"
        for key in ("neck", "segmentation_head", "detection_head")
        if model.get(key)
    ]
    return f"Model: {', '.join(parts)}; images are seen at {_size(data['image_size'])} pixels"


def _name(component: Any) -> str:
    return str(component["name"] if isinstance(component, Mapping) else component)


def _size(size: Any) -> str:
    return " x ".join(map(str, size)) if isinstance(size, list | tuple) else f"{size} x {size}"


def _warnings(analysis: Analysis) -> list[str]:
    """Tell what cannot be told from so few images, and which were left out."""
    found = []
    number = len(analysis.observations.image_ids)
    if number < _FEW_IMAGES:
        found.append(f"{counted(number, 'image')} are few: look at the intervals before comparing with another run.")
    for task, masks in analysis.observations.masks.items():
        images = (masks.counts.true > 0).sum(axis=0)
        found += _rare(task, analysis.names(task, len(images)), images)
    for task, boxes in analysis.boxes.items():
        counted_objects = boxes.objects.take(~boxes.objects.difficult)
        cells = np.unique(np.stack([counted_objects.image, counted_objects.labels]), axis=1)
        images = np.bincount(cells[1], minlength=boxes.num_classes)
        found += _rare(task, analysis.names(task, boxes.num_classes), images)
    skipped = analysis.result.skipped
    return [*found, *([f"{counted(len(skipped), 'image')} could not be read: {skipped[0]}"] if skipped else [])]


def _rare(task: str, names: Sequence[str], images: NDArray[np.int64]) -> list[str]:
    rare = [name for name, number in zip(names, images, strict=True) if number < FEWEST_IMAGES]
    if not rare:
        return []
    more = f" and {len(rare) - _MOST_NAMED} more" if len(rare) > _MOST_NAMED else ""
    which = ", ".join(rare[:_MOST_NAMED]) + more
    return [f"{task}: nothing can be told about classes that are in fewer than {FEWEST_IMAGES} images: {which}."]


def _picture(content: RunContent, name: str, caption: str) -> list[Block]:
    return [Picture(content.plots[name], caption)] if name in content.plots else []


def _masks(content: RunContent, task: str) -> list[Block]:
    caption = f"{task}: true classes (rows) and what their pixels are taken for"
    table = tables.confused_table(content.analysis, task)
    return [*_picture(content, f"{task}/confusion", caption), *([table] if len(table.frame) else [])]


def _boxes(content: RunContent, task: str) -> list[Block]:
    analysis = content.analysis
    threshold = analysis.boxes[task].score_threshold
    return [
        tables.errors_table(analysis, task),
        *_picture(content, f"{task}/errors", f"{task}: what each type of error costs, and how often it occurs"),
        tables.class_errors_table(analysis, task),
        *_picture(content, f"{task}/curves", f"{task}: precision, recall, F1; boxes are used from {threshold:.2f} on"),
        tables.thresholds_table(analysis, task),
        *_picture(
            content, f"{task}/confusion", f"{task}: objects (rows) and the class of the box that finds them, if any"
        ),
        *_picture(content, f"{task}/recall", f"{task}: share of the objects that are found, by what is known of them"),
        tables.rates_table(f"recall_{task}", f"{task}: objects that are found", analysis.tables[f"{task}/recall"]),
    ]


def _calibration(content: RunContent) -> list[Block]:
    caption = "Bars below the line: confidences are too high. Each confidence is that of a decision"
    found = [name.partition("/")[0] for name in content.analysis.tables if name.endswith("/calibration")]
    blocks = [tables.calibration_table(content.analysis, task) for task in found]
    return [*_picture(content, "reliability", caption), *blocks]


def _agreement(content: RunContent) -> list[Block]:
    if "agreement" not in content.analysis.tables:
        return []
    text = (
        "A mask agrees with a box if at least a tenth of the box's pixels are of its class; a region of the mask has a "
        "box if one of its class holds at least half of it. The true annotations do not always agree either: no model "
        "can do better than they."
    )
    table = content.analysis.tables["agreement"]
    caption = "How often mask and boxes say the same, by size in pixels"
    return [
        Text(text),
        *_picture(content, "agreement", caption),
        tables.rates_table("agreement", "How often mask and boxes agree", table),
        tables.disagreement_table(content.analysis),
    ]


def _properties(content: RunContent) -> list[Block]:
    found = content.analysis.tables["correlations"]
    return [tables.correlation_table(found)] if len(found) else []


def _training(content: RunContent) -> list[Block]:
    blocks = _picture(content, "training", "Losses, metrics and learning rate by epoch")
    if content.config is not None:
        text = yaml.safe_dump(content.config.dump(), sort_keys=False)
        blocks = [*blocks, Code("The config of the run", text, folded=True)]
    return blocks
