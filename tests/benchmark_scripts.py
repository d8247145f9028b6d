"""The benchmarks as modules; they stand outside any package and import each other by name."""

import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def loaded(name, patch):
    """Return a benchmark, read anew, that can import the others as long as the patch holds."""
    patch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def load_benchmark(monkeypatch):
    """Load benchmarks by name for one test."""
    return lambda name: loaded(name, monkeypatch)


@pytest.fixture(scope="module")
def load_benchmark_once():
    """Load benchmarks by name for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        yield lambda name: loaded(name, patch)
