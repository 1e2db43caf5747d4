"""The loop, stopping, the guard against broken numbers, and what is kept of the training cells."""
