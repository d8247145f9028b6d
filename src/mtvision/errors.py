"""What mtvision raises for a person to read, and the nearest-spelling helper behind its sentences."""

import difflib
from collections.abc import Iterable, Sequence


class MtvisionError(Exception):
    """Base of all errors that mtvision raises on purpose."""


class ConfigError(MtvisionError, ValueError):
    """A config that cannot be used; every problem of it is listed in ``problems``, one sentence each."""

    def __init__(self, problems: Sequence[str], source: str | None = None) -> None:
        self.problems = tuple(problems)
        head = f"{source}: " if source else ""
        super().__init__(head + ("\n" + head).join(self.problems))


class RegistryError(MtvisionError, LookupError):
    """An unknown or doubly registered name."""


class DataError(MtvisionError, ValueError):
    """A file or folder of a data set that cannot be used; the message names it."""

    def __init__(self, message: str) -> None:
        # A loader's worker process hands an error on as the text of its traceback; the sentence is the end of it.
        super().__init__(message.rpartition(f"{__name__}.DataError: ")[2].rstrip())


class CheckpointError(MtvisionError, RuntimeError):
    """A checkpoint or run folder that is missing, damaged or belongs to another config."""


class TrainingError(MtvisionError, RuntimeError):
    """A run that cannot go on."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the choice nearest to ``word``, or an empty string.

    Example:
        >>> did_you_mean("backbne", ["backbone", "activation"])
        " Did you mean 'backbone'?"
    """
    nearest = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
