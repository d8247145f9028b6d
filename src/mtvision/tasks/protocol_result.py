"""What an evaluation protocol returns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProtocolResult:
    """The numbers of one protocol over a data set.

    NaN says that a value does not exist (a class without an object in the truth); it is never -1.

    Attributes:
        metrics: name to number of the whole data set.
        per_class: name to one number a class, in the order of the labels.
    """

    metrics: dict[str, float]
    per_class: dict[str, list[float]]
