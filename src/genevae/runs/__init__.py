"""A training run: configuration, preparation, checkpoints, and the folder of the trained model."""
