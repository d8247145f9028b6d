"""Data sets and predictions as files that other tools read."""
