"""Results in pandas: run the command, read its files, and compare two methods paired by seed."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

folder = Path(tempfile.mkdtemp()) / "result"
command = [sys.executable, "-m", "toy.frozenlake", "--method", "sft", "ift", "--seeds", "8", "--out", str(folder)]
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

runs = pd.read_parquet(folder / "runs.parquet")  # a row per method and seed
by_seed = runs.pivot(index="seed", columns="method", values="parameter_mse")
difference = by_seed["sft"] - by_seed["ift"]
print(f"IFT is closer than SFT on {(difference > 0).sum()} of {len(difference)} seeds, in parameters.")

curves = pd.read_parquet(folder / "curves.parquet")  # a row per method, seed and measured update
print(curves.groupby(["method", "step"])["policy_mse"].mean().unstack("method").tail(3))
