"""Our recipes, other methods and baselines on real data, a table per question: `make results`."""
