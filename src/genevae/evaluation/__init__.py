"""Any models, ours or others', compared with baselines on held-out cells."""
