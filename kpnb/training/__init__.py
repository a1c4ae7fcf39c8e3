"""Classification and distillation, with the settings of each."""
