"""One call that compares runs on the same images."""

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from mtvision.analysis.bootstrap import resample_weights
from mtvision.analysis.comparison import FEWEST_IMAGES, Row, RunComparison, difference_frame, image_frame
from mtvision.analysis.comparison_panel import Example
from mtvision.analysis.entrants import (
    Entrant,
    config_differences,
    read_entrants,
    shared_data,
    shared_tasks,
)
from mtvision.analysis.run_scores import Resampled, RunScores, score_run
from mtvision.errors import DataError
from mtvision.training.evaluate import Reading, Scored
from mtvision.training.evaluation_result import by_class
from mtvision.types import Classes, Sample
from mtvision.visualize.panel import truth_of

_EXAMPLES = 6  # images in a picture

logger = logging.getLogger(__name__)


def compare(
    runs: Mapping[str, Scored] | Sequence[Scored],
    data: Sequence[Sample] | None = None,
    *,
    split: str = "val",
    names: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    batch_size: int = 8,
    num_workers: int = 0,
) -> RunComparison:
    """Compare trained networks on the same images: what differs, whether it is shown, and where.

    Each run is scored as `mtvision.evaluate` does, one after another; some KB an image stay of what it predicts. Then
    the images are drawn again with replacement, the same for all runs, and all numbers are computed anew: the paired
    bootstrap (Efron and Tibshirani 1993, An Introduction to the Bootstrap). Its intervals tell what other images of the
    same kind would say of these networks, not what another seed of the training would give. Differences are to the
    first run.

    Args:
        runs: two or more models, predictors around them, or folders of runs, of which the best checkpoint is loaded
            onto the CPU; a mapping gives them names. Models stay on their device.
        data: annotated images; None: a split of the data set in the first run's config, which must be that of all.
        split: of that data set.
        names: of the runs, where ``runs`` is no mapping; None: those of the folders.
        resamples: number of them.
        seed: of the resamples.
        batch_size: images that go through a network together.
        num_workers: processes that load images.

    Raises:
        ConfigError: if there are less than two runs, they have not the same classes or no task in common, a name is
            there twice, or ``data`` is None and the runs do not tell the same data set.
        CheckpointError: if a folder holds no checkpoint that can be loaded.
        DataError: if there are no images, their classes are not those of the runs, or two have the same id.
        ValueError: if ``resamples`` is below 1.

    Example:
        >>> import mtvision as mtv
        >>> shapes = {"name": "shapes", "num_images": 8, "image_size": 32}
        >>> data = mtv.build_dataset({"data": {"dataset": shapes}}, "val")
        >>> config = {"model": {"backbone": "test_resnet"}, "data": {"image_size": 32}}
        >>> model = mtv.build_model(config, classes=data.classes)
        >>> found = compare({"a": model, "b": model}, data, resamples=10)
        >>> found.table["difference"].tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    if resamples < 1:
        raise ValueError(f"resamples: expected at least 1, got {resamples}")
    entrants = read_entrants(runs, names)
    tasks = shared_tasks(entrants)
    samples = shared_data(entrants, split) if data is None else data
    if not len(samples):
        raise DataError("data: there is no image to compare the runs on")
    drawn = resample_weights(len(samples), resamples, np.random.default_rng(seed))
    weights = np.concatenate([np.ones((1, len(samples)), dtype=np.int32), drawn])
    reading = Reading(batch_size, num_workers)
    scores = []
    for entrant in entrants:
        logger.info("%s: is scored on %d images", entrant.name, len(samples))
        scores.append(score_run(entrant.scored(), tasks, samples, weights, reading))
    ids = scores[0].predictions.image_ids
    labels = [entrant.name for entrant in entrants]
    classes = entrants[0].classes or getattr(samples, "classes", None)
    return RunComparison(
        names=tuple(labels),
        num_images=len(ids),
        resamples=resamples,
        table=_metric_frame(labels, scores),
        per_class=_class_frame(labels, scores, classes),
        images=image_frame(ids, labels, [of_run.images for of_run in scores]),
        differences=_config_frame(entrants),
        notes=tuple(_notes(entrants, tasks, scores[0])),
        classes=classes,
        examples={
            name: tuple(_examples(samples, scores[0], other))
            for name, other in zip(labels[1:], scores[1:], strict=True)
        },
    )


def _metric_frame(names: Sequence[str], scores: Sequence[RunScores]) -> pd.DataFrame:
    """Return a row a metric and run, the metrics in their order."""
    rows = [
        Row({"metric": metric, "run": name}, first.values, of_run.metrics[metric].values, int(first.images))
        for metric, first in scores[0].metrics.items()
        for name, of_run in zip(names[1:], scores[1:], strict=True)
    ]
    return difference_frame(rows, ("metric", "run"))


def _class_frame(names: Sequence[str], scores: Sequence[RunScores], classes: Classes | None) -> pd.DataFrame:
    """Return a row a metric, class and run, in their order."""
    rows = [
        Row(
            {"metric": metric, "class": label, "run": name},
            first.values[:, place],
            of_run.per_class[metric].values[:, place],
            int(first.images[place]),
        )
        for metric, first in scores[0].per_class.items()
        for place, label in enumerate(_labels(metric, first, classes))
        for name, of_run in zip(names[1:], scores[1:], strict=True)
    ]
    return difference_frame(rows, ("metric", "class", "run"))


def _labels(metric: str, found: Resampled, classes: Classes | None) -> list[str]:
    """Return the names of the classes, their numbers where they are not known."""
    return list(by_class([0.0] * found.values.shape[1], metric.partition("/")[0], classes))


def _examples(samples: Sequence[Sample], first: RunScores, other: RunScores) -> Iterator[Example]:
    """Yield the images that two runs differ most in, which must differ."""
    ids = first.predictions.image_ids
    frame = image_frame(ids, ("", ""), (first.images, other.images))
    for row in frame[frame["difference"].fillna(0) != 0].head(_EXAMPLES).to_dict("records"):
        sample = samples[ids.index(row["image"])]
        yield Example(
            image_id=row["image"],
            image=sample.image,
            truth=dict(truth_of(sample)),
            predictions=(first.predictions.of(row["image"]), other.predictions.of(row["image"])),
            scores=(row["baseline"], row["score"]),
            score_thresholds=(first.score_threshold, other.score_threshold),
        )


def _config_frame(entrants: Sequence[Entrant]) -> pd.DataFrame:
    """Return a row a key whose values differ."""
    rows = [{"key": key, **values} for key, values in config_differences(entrants).items()]
    return pd.DataFrame(rows, columns=["key", *(entrant.name for entrant in entrants if entrant.config is not None)])


def _notes(entrants: Sequence[Entrant], tasks: Sequence[str], scores: RunScores) -> Iterator[str]:
    """Yield a sentence for whatever was not compared."""
    for entrant in entrants:
        alone = [task for task in entrant.num_classes if task not in tasks]
        if alone:
            yield f"'{entrant.name}' also does {', '.join(alone)}, which not all runs do: not compared."
    unknown = [entrant.name for entrant in entrants if entrant.config is None]
    if unknown:
        yield f"Configs are read from run folders; those of {', '.join(unknown)} are not known."
    few = [name for name, found in scores.metrics.items() if found.images < FEWEST_IMAGES]
    if few:
        yield f"No intervals of {', '.join(few)}: they need at least {FEWEST_IMAGES} annotated images."
    once = [name for name, found in scores.metrics.items() if np.isnan(found.values[1:]).all() and name not in few]
    if once:
        yield f"No intervals of {', '.join(once)}: these cannot be computed anew for a resample."
