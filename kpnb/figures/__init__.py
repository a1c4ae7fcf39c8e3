"""Drawings; never part of what a result depends on."""
