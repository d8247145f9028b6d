"""Ctrl-C and SIGTERM as a wish that is fulfilled between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_WISHES = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Which signal has come, if any.

    Attributes:
        signal: the first one; None before.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def leave(self, hint: str) -> None:
        """Leave as the signal's usual handler would: with KeyboardInterrupt, or with exit code 143 after SIGTERM."""
        if self.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt(hint)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Note Ctrl-C and SIGTERM instead of stopping at once, as long as the context lasts.

    Ctrl-C after either stops at once; a further SIGTERM changes nothing. What is ignored from outside stays so. In a
    thread that is not the main one signals cannot be handled, and nothing is noted.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if interruption and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not interruption:  # a launcher may send SIGTERM again while the run is being saved
            interruption.signal = signal.Signals(number)

    heeded = [wish for wish in _WISHES if signal.getsignal(wish) != signal.SIG_IGN]  # nohup ignores, so do we
    before: dict[signal.Signals, Any] = {wish: signal.signal(wish, note) for wish in heeded}
    try:
        yield interruption
    finally:
        for wish, handler in before.items():
            signal.signal(wish, signal.SIG_DFL if handler is None else handler)
