"""Arrays in, numbers out: scores and the baselines that stand beside them."""
