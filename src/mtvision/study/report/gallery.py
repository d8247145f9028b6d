"""The gallery of the best run in a study's report."""

from collections.abc import Mapping
from pathlib import Path

from mtvision.analysis.gallery import Gallery, GalleryImage
from mtvision.analysis.run_report_tables import correlation_table, image_table
from mtvision.report.blocks import Block, Card, Cards, Text


def write_pictures(gallery: Gallery | None, folder: Path) -> dict[str, Path]:
    """Write the pictures of a gallery, and return the files by image id.

    Args:
        gallery: of the best run; None: there is none.
        folder: is made if there is a gallery.
    """
    if gallery is None:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, images in (("best", gallery.best), ("worst", gallery.worst)):
        for number, image in enumerate(images, start=1):
            path = folder / f"{name}_{number}.jpg"
            path.write_bytes(image.picture)
            found[image.image_id] = path
    return found


def gallery_blocks(gallery: Gallery | None, pictures: Mapping[str, Path]) -> list[Block]:
    """Return what a report shows of a gallery.

    Args:
        gallery: of the best run; None: there is none.
        pictures: files by image id.
    """
    if gallery is None:
        return []
    text = (
        "Each image scores the mean of its tasks: mIoU over the classes in its truth or prediction, F1 of its boxes at "
        "IoU 0.5"
    )
    if gallery.score_threshold is not None:
        text += f" and score {gallery.score_threshold:.2f}, which is the best for the whole data set"
    text += (
        ". What is listed is unusual about an image (an outer fifth of the data set). Marked with * is what goes along "
        "with such scores over all images; that is no proof of a cause."
    )
    groups = (("The best", gallery.best), ("The worst", gallery.worst))
    cards: list[Block] = [
        Cards(title, [_card(image, pictures[image.image_id]) for image in images]) for title, images in groups if images
    ]
    correlations = [correlation_table(gallery.correlations)] if len(gallery.correlations) else []
    return [Text(text), *cards, *correlations, image_table(gallery.scores)]


def _card(image: GalleryImage, path: Path) -> Card:
    scores = ", ".join(f"{task} {value:.2f}" for task, value in image.scores.items())
    return Card(
        title=image.image_id,
        text=f"{image.score:.2f} ({scores})",
        picture=path,
        alt=f"image, truth and prediction of {image.image_id}",
        lines=[reason.text + (" *" if reason.matters else "") for reason in image.reasons],
    )
