"""The packages that an export needs beside torch."""

import importlib.util

from mtvision.errors import MtvisionError


def require(package: str, purpose: str) -> None:
    """Check that a package of the extra ``export`` is there.

    Args:
        package: such as "onnxruntime".
        purpose: what it is needed for, "to read an ONNX file".

    Raises:
        MtvisionError: if it is missing.

    Example:
        >>> require("json", "to read")
    """
    if importlib.util.find_spec(package) is None:
        raise MtvisionError(f"{purpose}, mtvision needs the package {package}: pip install 'mtvision[export]'")
