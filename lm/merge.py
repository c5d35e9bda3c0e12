"""Fold a trained adapter into its base model, as safetensors that plain transformers loads.

Examples:
  python -m lm.merge --model results/lm-ift/model --out merged
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from lm.train import models
from lm.train.__main__ import quieten


@dataclass(frozen=True)
class Options:
    """Which adapter, and where the whole model goes."""

    model: str
    """Folder with the adapter, as `python -m lm.train --lora-r 16` leaves it under model/."""
    out: Path
    """New folder for weights, config and tokenizer."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the written weights; the sum is made in float32."""


def merge(options: Options) -> None:
    """Write the merged model, whole or not at all.

    Raises:
        ValueError: a folder that is no adapter, or whose base cannot be loaded; an `out` that exists.
    """
    if not Path(options.model).expanduser().is_dir():
        raise ValueError(f"model {options.model!r}: there is no such folder")
    if not (Path(options.model).expanduser() / "adapter_config.json").is_file():
        raise ValueError(f"model {options.model!r} holds no adapter (adapter_config.json): there is nothing to merge")
    if options.out.exists():
        raise ValueError(f"out {str(options.out)!r} exists already: name a new folder")
    model, tokenizer = models.load_trained(options.model)
    models.save_whole(model.merge_and_unload().to(getattr(torch, options.dtype)), tokenizer, options.out)


def main() -> None:
    """The command: bad input is one line and exit code 2."""
    options = tyro.cli(Options, prog="python -m lm.merge", description=__doc__)
    quieten()
    models.offline()
    try:
        merge(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"Written to {options.out}")


if __name__ == "__main__":
    main()
