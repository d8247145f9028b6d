"""Task balancing: how much each task's loss weighs in a step. The import fills ``mtvision.registries.BALANCERS``."""

from mtvision.training.balancing import gradients, gradnorm, losses
from mtvision.training.balancing.base import Balancer, DrawingBalancer, LossBalancer

__all__ = ["Balancer", "DrawingBalancer", "LossBalancer", "gradients", "gradnorm", "losses"]
