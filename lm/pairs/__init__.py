"""The command `python -m lm.pairs`: pairs for DPO and its kin, whose rejected answers are the model's own."""
