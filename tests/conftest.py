"""Settings of all tests: one thread a test process (``make test`` starts one a core), and a cache of its own."""

import os

import pytest
import torch

from benchmark_scripts import load_benchmark, load_benchmark_once  # noqa: F401 - fixtures of all tests
from devkit_folder import devkit, real_pack  # noqa: F401 - fixtures of all tests
from mtvision import registries
from mtvision.backbones import timm as timm_backbones
from mtvision.registry import Registry

torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Start the longest tests first: at the end of all, one of them would leave the other test processes idle."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Keep statistics that tests compute out of the user's cache."""
    os.environ["MTVISION_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="session")
def _size_rules_found_once():
    """Try once, not for each model, which sizes an architecture takes: half of the time that building one takes."""
    original, found = timm_backbones._find_size_rule, {}

    def find(name, net, stride):
        if (name, stride) not in found:
            found[name, stride] = original(name, net, stride)
        return found[name, stride]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm_backbones, "_find_size_rule", find)
        yield


@pytest.fixture(autouse=True)
def _registries_as_they_were():
    """Forget what a test registered."""
    all_of_them = [value for value in vars(registries).values() if isinstance(value, Registry)]
    for registry in all_of_them:
        registry._fill()  # an import happens once: what it registers must not be forgotten
    before = [(dict(registry._factories), dict(registry._options_models)) for registry in all_of_them]
    yield
    for registry, (factories, options) in zip(all_of_them, before, strict=True):
        registry._factories, registry._options_models = factories, options


@pytest.fixture(scope="module")
def without_curves():
    """Draw no curves at the end of a run: they take longer than a small run, and `test_trainer` looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtvision.visualize.curves.write_curves", lambda *arguments, **options: None)
        yield
