"""The command line: a thin door, each verb one public function."""

from mtvision.cli.application import app

__all__ = ["app"]
