"""Sentences and questions, their words and which of them are foreground."""
