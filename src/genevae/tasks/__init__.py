"""The verbs on a trained model, one per file. A new one needs a file here and a line in ``genevae.cli``."""
