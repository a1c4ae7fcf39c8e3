"""The six metrics and three roles: names, order, hypothesis, and what the paper predicts."""

#: In the order of the paper's columns; Eq. 5-7, 8 and 9.
METRICS = ("n_fg", "n_bg", "lambda", "d_mean", "d_var", "rho")
#: Which hypothesis a metric belongs to.
HYPOTHESES = {"n_fg": 1, "n_bg": 1, "lambda": 1, "d_mean": 2, "d_var": 2, "rho": 3}
#: The side of the baseline on which the paper expects the student.
PREDICTIONS = {
    "n_fg": "up",
    "n_bg": "down",
    "lambda": "up",
    "d_mean": "down",
    "d_var": "down",
    "rho": "up",
}
ROLES = {"T": "teacher", "S": "student", "B": "baseline"}
#: Scores of networks: what each is, and on which samples.
SCORES = {
    f"{key}_{split}": (name, samples)
    for key, name in (("accuracy", "accuracy"), ("f1", "F1"), ("exact_match", "exact match"))
    for split, samples in (("test", "unseen"), ("train", "training"))
}
