"""How well the effect of a perturbation is predicted."""
