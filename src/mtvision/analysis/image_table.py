"""One row an image: how well it is predicted, what is wrong in it, and what can be measured of it."""

from collections.abc import Mapping

import pandas as pd

from mtvision.analysis.box_findings import BoxFindings
from mtvision.analysis.joint_tables import counted_parts
from mtvision.analysis.mask_counts import image_miou
from mtvision.analysis.observations import Observations


def image_table(observations: Observations, boxes: Mapping[str, BoxFindings]) -> pd.DataFrame:
    """Return one row an image.

    A mask scores the mean IoU over the classes in truth or prediction of the image; boxes score F1 at IoU 0.5, by the
    detections that are used. ``score`` is the mean of the tasks; it is NaN where an image is annotated for fewer tasks
    than others, since it would not compare.

    Args:
        observations: of the images.
        boxes: by task.

    Returns:
        Columns ``image_id, height, width, score``; a column a task; for each task of boxes ``<task>/true``,
        ``<task>/classification`` and so on, counts of detections by their verdict, and ``<task>/missed``, objects;
        ``disagreements``, boxes and regions that the other task does not agree with; and the measures of the image.
    """
    scores = {task: image_miou(masks.counts) for task, masks in observations.masks.items()}
    scores |= {task: found.image_f1() for task, found in boxes.items()}
    tasks = pd.DataFrame(scores, index=range(len(observations.image_ids)), dtype=float)
    known = tasks.notna().sum(axis=1)
    frame = pd.DataFrame({"image_id": list(observations.image_ids)})
    frame["height"], frame["width"] = observations.image_sizes.T
    frame["score"] = tasks.mean(axis=1).where(known == (known.max() if len(known) else 0))
    counts = {
        f"{task}/{name}": values
        for task, found in boxes.items()
        for name, values in found.image_counts().items()
        if name not in ("found", "objects")
    }
    disagreements = _disagreements(observations, boxes)
    return pd.concat([frame, tasks, pd.DataFrame(counts), disagreements, observations.facts], axis=1)


def _disagreements(observations: Observations, boxes: Mapping[str, BoxFindings]) -> pd.DataFrame:
    """Return how many predicted boxes and regions of each image the other task contradicts, where both are known."""
    if observations.agreement is None:
        return pd.DataFrame()
    parts = counted_parts(observations.agreement, boxes["det"].score_threshold)
    images = pd.concat([parts[name].loc[~parts[name]["agrees"], "image"] for name in ("boxes", "regions")])
    counts = images.value_counts().reindex(range(len(observations.image_ids)), fill_value=0)
    return pd.DataFrame({"disagreements": counts.to_numpy()})
