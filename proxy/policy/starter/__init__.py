"""A first policy and its tests from five answers: `answers.py` reads them, `text.py` writes the policy."""
