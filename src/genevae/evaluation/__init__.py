"""What one asks of trained models: each question borrows them, and answers beside baselines.

The only layer that sees both models and `evaluation`.
"""
