"""The command `python -m lm.pairs`: pairs for DPO and similar methods, whose rejected answers are the model's own."""
