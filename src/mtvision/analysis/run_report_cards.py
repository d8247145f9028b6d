"""The pictures of a run's report as cards, and what the signs on them mean."""

from collections.abc import Mapping, Sequence

from mtvision.analysis.analysis import Analysis
from mtvision.analysis.box_errors import ERROR_NAMES
from mtvision.analysis.error_examples import DISAGREEMENTS
from mtvision.analysis.pictures import LETTERS
from mtvision.analysis.run_report_pictures import Pictured, RunPictures, Shown
from mtvision.analysis.run_report_tables import ERROR_MEANINGS
from mtvision.report.blocks import Block, Card, Cards, Legend, Sign, Text
from mtvision.visualize.error_colors import ERROR_COLORS
from mtvision.visualize.marks import PIXEL_COLORS

_SEARCHABLE_FROM = 3  # cards


def _legend(analysis: Analysis) -> list[Block]:
    signs: list[Sign] = []
    if "det" in analysis.boxes:
        letters = {verdict.name.lower(): letter for verdict, letter in LETTERS.items() if letter}
        signs.append(Sign(ERROR_COLORS["true"], "true box, or object that is found"))
        signs += [Sign(ERROR_COLORS[name], f"{letters[name]}: {name}") for name in ERROR_NAMES if name in letters]
        signs.append(Sign(ERROR_COLORS["localisation"], "object that only a false box refers to"))
        signs.append(Sign(ERROR_COLORS["missed"], "object that is missed", dashed=True))
        signs.append(Sign(ERROR_COLORS["ignored"], "difficult object", dashed=True))
    if "seg" in analysis.observations.masks:
        signs += [Sign(color, f"pixels: {name}") for name, color in PIXEL_COLORS.items()]
    return [Legend(signs)]


def gallery_blocks(analysis: Analysis, pictures: RunPictures) -> list[Block]:
    """Return the worst and the best images, with what the signs on them mean.

    Args:
        analysis: of the model.
        pictures: of the report.
    """
    text = (
        "What is listed is unusual about an image (an outer fifth of the data set). Marked with * is what goes along "
        "with such scores over all images."
    )
    counts = _false_counts(analysis)
    groups = (("Worst", pictures.worst), ("Best", pictures.best))
    cards = [
        Cards(title, [_card(shown, counts) for shown in images], searchable=len(images) >= _SEARCHABLE_FROM)
        for title, images in groups
        if images
    ]
    return [Text(text), *_legend(analysis), *cards]


def _false_counts(analysis: Analysis) -> Mapping[str, float]:
    """Return the number of errors of boxes in each image, by id; nothing without boxes."""
    images = analysis.images
    names = [f"{task}/{error}" for task in analysis.boxes for error in ERROR_NAMES]
    return dict(zip(images["image_id"], images[names].sum(axis=1).astype(float), strict=True)) if names else {}


def _card(shown: Shown, counts: Mapping[str, float]) -> Card:
    image = shown.image
    scores = ", ".join(f"{task} {value:.2f}" for task, value in image.scores.items())
    values = dict(image.scores)
    if image.image_id in counts:
        values["errors of boxes"] = counts[image.image_id]
    return Card(
        image.image_id,
        f"{'; '.join(shown.roles)} ({scores})",
        shown.path,
        f"image, truth, prediction and mask errors of {image.image_id}",
        [reason.text + (" *" if reason.matters else "") for reason in image.reasons],
        values,
    )


def example_blocks(analysis: Analysis, pictures: RunPictures) -> list[Block]:
    """Return the examples of errors by their type; nothing where there is none.

    Args:
        analysis: of the model.
        pictures: of the report.
    """
    blocks: list[Block] = []
    for kind, found in pictures.boxes.items():
        what = (
            "Shown is the largest of each class." if kind == "missed" else "Shown is the highest score of each class."
        )
        blocks.append(_example_cards(kind.capitalize(), f"{ERROR_MEANINGS[kind]} {what}", found))
    if pictures.masks:
        caption = "Of the pairs of classes that are confused most, the image with most such pixels."
        blocks.append(_example_cards("Confused pixels", caption, pictures.masks))
    for kind, words in DISAGREEMENTS.items():
        rows = [(example, path) for example, path in pictures.disagreements if example.kind == kind]
        if rows:
            blocks.append(_example_cards(f"Tasks that disagree: {words}", "", rows))
    return [*_legend(analysis), *blocks] if blocks else []


def _example_cards(title: str, caption: str, rows: Sequence[Pictured]) -> Cards:
    cards = [
        Card(example.title, f"{example.text} ({example.image_id})", path, f"{example.title} in {example.image_id}")
        for example, path in rows
    ]
    return Cards(title, cards, small=True, caption=caption)
