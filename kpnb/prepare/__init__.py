"""From a data set as published to what the studies read; `data_prep/` has a script for each."""
