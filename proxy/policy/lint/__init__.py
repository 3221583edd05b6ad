"""Looks for what a policy that compiles cannot mean: `lint.py` asks everything, the others each one sort of thing."""
