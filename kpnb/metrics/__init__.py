"""Equations 5 to 9: entropy maps -> knowledge points -> numbers with intervals and verdicts."""
