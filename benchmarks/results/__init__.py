"""Our recipes beside peers and baselines on real data, a table per question: `make results`."""
