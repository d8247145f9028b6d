"""Necks: modules that turn the features of a backbone into other features; the import fills the registry."""

from mtvision.necks.base import Neck
from mtvision.necks.bifpn import BiFPN
from mtvision.necks.fpn import FPN
from mtvision.necks.none import NoNeck
from mtvision.necks.pan import PAN
from mtvision.necks.simple_fpn import SimpleFPN

__all__ = ["FPN", "PAN", "BiFPN", "Neck", "NoNeck", "SimpleFPN"]
