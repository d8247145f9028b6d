"""Every registered detection head compiles and exports, on the neck that it names."""

import pytest

from contract_detection import check_detection_compiles, check_detection_export
from mtvision.registries import DETECTION_HEADS

HEADS = pytest.mark.parametrize("name", DETECTION_HEADS.names())


@HEADS
def test_compiles_in_one_graph(name):
    check_detection_compiles(name)


@HEADS
@pytest.mark.slow
def test_exported_equals_eager_at_other_sizes(name):
    check_detection_export(name)
