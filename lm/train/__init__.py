"""The command `python -m lm.train`."""
