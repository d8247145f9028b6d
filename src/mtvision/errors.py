"""What mtvision raises for a person to read, and the nearest-spelling helper behind its sentences."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

_MOST_CHOICES = 24  # in a sentence


class MtvisionError(Exception):
    """Base of all errors that mtvision raises on purpose."""


class ConfigError(MtvisionError, ValueError):
    """A config that cannot be used; every problem of it is listed in ``problems``, one sentence each."""

    def __init__(self, problems: Sequence[str] | str, source: str | None = None) -> None:
        listed = [_sentence(problems, type(self))] if isinstance(problems, str) else problems
        self.problems: tuple[str, ...] = tuple(listed)
        self.source = source
        head = f"{source}: " if source else ""
        super().__init__(head + ("\n" + head).join(self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes with all problems."""
        return type(self), (self.problems, self.source)


class RegistryError(MtvisionError, LookupError):
    """An unknown or doubly registered name."""


class DataError(MtvisionError, ValueError):
    """A file or folder of a data set that cannot be used; the message names it."""

    def __init__(self, message: str) -> None:
        super().__init__(_sentence(message, type(self)))


class CheckpointError(MtvisionError, RuntimeError):
    """A checkpoint or run folder that is missing, damaged or belongs to another config."""


class TrainingError(MtvisionError, RuntimeError):
    """A run that cannot go on."""


def _sentence(message: str, kind: type[MtvisionError]) -> str:
    """Return the end of a traceback's text, as which a loader's worker process hands an error on; else all of it."""
    return message.rpartition(f"{kind.__module__}.{kind.__qualname__}: ")[2].rstrip()


def choices_hint(word: str, choices: Iterable[str]) -> str:
    """Return the end of a sentence on a word that is none of the choices: the nearest one, and the first 24.

    Example:
        >>> choices_hint("kat", ["cat", "dog"])
        ". Did you mean 'cat'? Known: cat, dog"
    """
    names = list(choices)
    known = ", ".join(names[:_MOST_CHOICES]) + (", ..." if len(names) > _MOST_CHOICES else "")
    return f".{did_you_mean(word, names)} Known: {known}"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the choice nearest to ``word``, or an empty string.

    Example:
        >>> did_you_mean("backbne", ["backbone", "activation"])
        " Did you mean 'backbone'?"
    """
    nearest = difflib.get_close_matches(word, list(choices), n=3, cutoff=0.6)
    # two letters that changed places are likelier than another letter: 'fnc' is 'fcn', not 'fpn'
    nearest.sort(key=lambda choice: sorted(choice) != sorted(word))
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
