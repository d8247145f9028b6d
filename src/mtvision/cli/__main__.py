"""``python -m mtvision.cli``."""

from mtvision.cli import app

app()
