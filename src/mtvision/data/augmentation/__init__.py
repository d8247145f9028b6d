"""Samples changed at random: presets, the user's own, and mixes of several samples."""
