"""Scores of a trained model as the paper reports them: `python -m lm.evaluate`."""
