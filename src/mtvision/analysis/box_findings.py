"""What the boxes of a task get wrong: matched once, at all scores and at the score from which boxes are used."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mtvision.analysis.box_errors import BoxErrors, ErrorCosts, Verdict, error_costs, find_errors
from mtvision.analysis.curves import ScoreCurves, score_curves
from mtvision.analysis.detections import Detections, ObjectOutcomes, Objects, object_outcomes
from mtvision.analysis.observations import BoxObservations

NOTHING_FOUND = 0.5
"""Score threshold where no threshold is better than another."""


@dataclass(frozen=True)
class BoxFindings:
    """The boxes of a task, and what is said of each.

    Attributes:
        observed: that was observed.
        given_threshold: score from which boxes are used; None: the one with the best F1 over all classes together.
    """

    observed: BoxObservations
    given_threshold: float | None = None

    @property
    def num_classes(self) -> int:
        """C."""
        return self.observed.num_classes

    @cached_property
    def detections(self) -> Detections:
        """Detections in annotated images, of all scores."""
        return self.observed.judged

    @property
    def objects(self) -> Objects:
        """Objects of the annotated images."""
        return self.observed.objects

    @cached_property
    def score_threshold(self) -> float:
        """Score from which boxes are used."""
        if self.given_threshold is not None:
            return self.given_threshold
        best = self.curves.overall.best.threshold
        return NOTHING_FOUND if np.isnan(best) else best

    @cached_property
    def curves(self) -> ScoreCurves:
        """Precision, recall and F1 at each score."""
        return score_curves(self.detections, self.objects, self.num_classes)

    @cached_property
    def used(self) -> Detections:
        """Detections that score at least the threshold."""
        return self.detections.take(self.detections.scores >= self.score_threshold)

    @cached_property
    def errors(self) -> BoxErrors:
        """Errors of the detections of all scores."""
        return find_errors(self.detections, self.objects, self.num_classes)

    @cached_property
    def costs(self) -> ErrorCosts:
        """What each type of these errors costs."""
        return error_costs(self.errors, self.detections, self.objects, self.num_classes)

    @cached_property
    def used_errors(self) -> BoxErrors:
        """Errors of the detections that are used, and the objects that none of these finds."""
        return find_errors(self.used, self.objects, self.num_classes)

    @cached_property
    def outcomes(self) -> ObjectOutcomes:
        """What the detections that are used make of each object."""
        return object_outcomes(self.detections, self.objects, score_threshold=self.score_threshold)

    def image_counts(self) -> dict[str, NDArray[np.int64]]:
        """Return for each image how many of the used detections have each verdict, and how many objects are missed.

        ``found`` and ``objects`` are the objects that are found, and that are to be found.
        """
        number = len(self.observed.annotated)
        verdicts = self.used_errors.verdicts
        rows = {verdict.name.lower(): self.used.image[verdicts == verdict] for verdict in Verdict}
        rows["missed"] = self.objects.image[self.used_errors.missed]
        rows["found"] = self.objects.image[self.outcomes.found]
        rows["objects"] = self.objects.image[self.outcomes.counted]
        return {name: np.bincount(images, minlength=number) for name, images in rows.items()}

    def image_f1(self) -> NDArray[np.float64]:
        """Return F1 of the used detections in each image, ``(N,)``.

        It is 1 where nothing is to be found and nothing is, and NaN in an image that nobody annotated.
        """
        counts = self.image_counts()
        false = sum(counts[verdict.name.lower()] for verdict in Verdict if verdict >= Verdict.CLASSIFICATION)
        total = counts["true"] + false + counts["objects"]
        values = np.divide(2.0 * counts["true"], total, out=np.ones(len(total)), where=total > 0)
        return np.where(self.observed.annotated, values, np.nan)
