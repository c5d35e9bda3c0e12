"""`python -m toy.benchmark`: a method against all others. What it does stands above this folder, in `figures`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("figures.benchmark", run_name="__main__", alter_sys=True)
