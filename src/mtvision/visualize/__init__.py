"""Pictures of what a model says and of how a run went."""

from mtvision.visualize.draw import draw
from mtvision.visualize.statistics import statistics

__all__ = ["draw", "statistics"]
