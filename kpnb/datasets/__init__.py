"""Samples with a foreground: images, point clouds and texts."""
