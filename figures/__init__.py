"""The paper's figures, drawn from saved results: `python -m figures frozen-lake`."""
