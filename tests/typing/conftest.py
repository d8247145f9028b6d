"""Nobody imports what only type checkers read: it would register its parts for all tests."""

collect_ignore = ["downstream.py"]
