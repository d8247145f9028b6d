"""Settings of all tests: one thread a test process (``make test`` starts one a core), and a cache of its own."""

import os

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Keep statistics that tests compute out of the user's cache."""
    os.environ["MTVISION_CACHE"] = str(tmp_path_factory.mktemp("cache"))
