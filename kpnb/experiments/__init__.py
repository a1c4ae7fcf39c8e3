"""What the paper asks further, and how good the estimator is."""
