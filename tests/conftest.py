"""Puts this folder on the path of imports, so that tests of all folders can use `contract`."""
