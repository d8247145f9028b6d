"""Backbones: images to features."""

from mtvision.backbones.base import Backbone
from mtvision.backbones.timm import TimmBackbone
from mtvision.backbones.weights import load_backbone_weights

__all__ = ["Backbone", "TimmBackbone", "load_backbone_weights"]
