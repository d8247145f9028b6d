"""What a finished fit leaves in memory."""

import gc
import weakref

import pytest
from small_runs import configured, fitted

from mtvision.training import fit, loop, session


@pytest.fixture
def made(monkeypatch):
    """Weak references to what a fit makes."""
    found = {}

    def watch(kind):
        original = kind.__init__

        def init(self, *arguments, **options):
            original(self, *arguments, **options)
            found.setdefault(kind.__name__, []).append(weakref.ref(self))

        monkeypatch.setattr(kind, "__init__", init)

    for kind in (fit.Fit, session.Session, loop.Loop):
        watch(kind)
    return found


@pytest.mark.parametrize("values", [{}, {"training__ema_decay": 0.9}, {"training__balancer": "uncertainty"}])
def test_it_is_gone_without_the_garbage_collector(made, values, without_curves):
    """Else optimizer state and gradients stay beside those of the next fit, on a GPU until its memory is full."""
    gc.collect()
    gc.disable()
    try:
        trainer = fitted(configured(**values), validate=True)
        assert {name: [each() for each in refs] for name, refs in made.items()} == {
            name: [None] for name in ("Fit", "Session", "Loop")
        }
    finally:
        gc.enable()
    assert len(trainer.history) == 1
