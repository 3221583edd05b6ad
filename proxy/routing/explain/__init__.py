"""A decision in words, for people: `explain.py` gathers it, the others put parts of it into sentences."""
