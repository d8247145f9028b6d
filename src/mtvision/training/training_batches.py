"""The batches of each epoch."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from mtvision.data.loading.loader import Loader
from mtvision.types import Batch


class TrainingBatches:
    """The batches of a loader by epoch; the workers may begin with an epoch before it begins.

    Args:
        loader: of `build_loader`, or a foreign one, which may have ``set_epoch(epoch)``.
    """

    def __init__(self, loader: DataLoader[Batch]) -> None:
        self.loader = loader
        self._ahead: tuple[int, Iterator[Batch]] | None = None

    def __len__(self) -> int:
        return len(self.loader)

    def of_epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of an epoch from ``start``; a foreign loader must give the others too, to be dropped."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and (epoch, start) == (ahead[0], 0):
            return ahead[1]
        if isinstance(self.loader, Loader) and self.loader.can_skip:
            self.loader.set_epoch(epoch, start)
            return iter(self.loader) if start < len(self.loader) else iter(())
        set_epoch: Any = getattr(self.loader, "set_epoch", lambda _: None)
        set_epoch(epoch)
        batches = iter(self.loader)
        for _ in range(start):
            next(batches, None)
        return batches

    def prepare(self, epoch: int) -> None:
        """Let the workers read the first batches of an epoch while something else is done, such as scoring.

        Without workers, or with a foreign loader, which may not stand it, nothing happens.
        """
        if isinstance(self.loader, Loader) and self.loader.can_skip and self.loader.num_workers:
            try:
                self._ahead = (epoch, self.of_epoch(epoch))
            except Exception:  # noqa: BLE001 - of a user's sampler; it comes again when the epoch begins
                self._ahead = None
