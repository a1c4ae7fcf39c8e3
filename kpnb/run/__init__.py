"""Notebooks checked and executed, sweeps, plans."""
