"""Network builders of the study, each naming the layers that the paper analyses."""
