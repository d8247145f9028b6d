"""Pure functions on boxes and points."""
