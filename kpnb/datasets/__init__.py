"""Samples with a foreground: the embedded data and the paper's data sets."""
