"""The former spelling of `python -m experiments.study`; it works for one version."""

import sys

from common.command import hand_over

if __name__ == "__main__":
    hand_over("python -m lm.study", "experiments.study", sys.argv[1:])
