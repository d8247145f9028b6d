"""Pictures of what a model says and of how a run went."""

from mtvision.visualize.draw import draw

__all__ = ["draw"]
