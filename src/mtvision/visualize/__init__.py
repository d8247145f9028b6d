"""Pictures of what a model says and of how a run went."""

from mtvision.visualize.augmentations import augmentations
from mtvision.visualize.draw import draw
from mtvision.visualize.statistics import statistics

__all__ = ["augmentations", "draw", "statistics"]
