"""Predicting better, and for many images: more views of an image, windows, folders, films."""
