"""One network that segments and detects."""

__version__ = "0.1.0"
