"""What an import costs: torch's satellites are loaded where they are used."""

import subprocess
import sys

import pytest

import mtvision as mtv

SATELLITES = [
    "timm",
    "albumentations",
    "torchmetrics",
    "matplotlib",
    "optuna",
    "torchvision",
    "cv2",
    "accelerate",
    "torchjd",
    "cvxpy",
    "rich",
    "pandas",
    "ensemble_boxes",
    "numba",
    "huggingface_hub",
]


def test_import_loads_none_of_the_satellites():
    code = f"import sys, mtvision; print([name for name in {SATELLITES!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_import_does_not_load_numpys_random_numbers():
    """NumPy 2 loads them when they are first asked for; an annotation is no reason to ask."""
    code = "import sys, torch; {0}; import mtvision; {0}".format("print('numpy.random' in sys.modules)")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = result.stdout.split()
    if before == "True":
        pytest.skip("this NumPy, or this torch, loads them itself")
    assert after == "False"


@pytest.mark.parametrize("name", mtv.__all__)
def test_every_public_name_is_there(name):
    assert getattr(mtv, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mtv.nothing  # noqa: B018
