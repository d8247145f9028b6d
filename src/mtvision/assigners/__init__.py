"""Assigners: which point of a detection head learns which object."""
