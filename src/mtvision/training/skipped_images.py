"""Images that could not be read and were left out: named once, and counted."""

import logging
from collections.abc import Iterable

from mtvision.training import processes

logger = logging.getLogger(__name__)


class SkippedImages:
    """The images that could not be read in one pass over the data; each is named in the log when it is first met.

    Args:
        named: the sentences that were logged before; those of this pass are added.
    """

    def __init__(self, named: set[str] | None = None) -> None:
        self._named = named if named is not None else set()
        self._problems: dict[str, None] = {}

    def add(self, problems: Iterable[str]) -> None:
        """Take note of a sentence for each image."""
        for problem in problems:
            self._problems[problem] = None
            if problem not in self._named:
                self._named.add(problem)
                logger.warning("left out: %s", problem)

    def of_all(self, shared: bool = True) -> tuple[str, ...]:
        """Return the sentences of this pass, each once; where processes share it, all of them must ask.

        Args:
            shared: whether the passes of several processes belong together.
        """
        own = tuple(self._problems)
        if not shared or processes.number() == 1:
            return own
        return tuple(dict.fromkeys(problem for problems in processes.gather(own) for problem in problems))
