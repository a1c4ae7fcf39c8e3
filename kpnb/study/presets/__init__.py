"""The values of each preset by notebook, and parameters that are those of no study."""
