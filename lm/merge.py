"""Fold a trained adapter into its base model, as safetensors that plain transformers loads.

Examples:
  python -m lm.merge --model results/lm-ift/model --out merged
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common import command


@dataclass(frozen=True)
class Options:
    """Which adapter, and where the whole model goes."""

    model: str
    """Folder with the adapter, as `python -m lm.train --lora-r 16` leaves it under model/."""
    out: Path
    """New folder for weights, config and tokenizer."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the written weights; the sum is made in float32."""

    def check(self) -> None:
        """Raise `ValueError` for a folder that is no adapter."""
        folder = Path(self.model).expanduser()
        if not folder.is_dir():
            raise ValueError(f"model {self.model!r}: there is no such folder")
        if not (folder / "adapter_config.json").is_file():
            raise ValueError(f"model {self.model!r} holds no adapter (adapter_config.json): there is nothing to merge")


def merge(options: Options) -> None:
    """Write the merged model, whole or not at all; raises `ValueError` for an `out` that exists, or a bad model."""
    import torch

    from common import models
    from common.folders import writing

    models.offline()
    with writing(options.out, new=True):
        model, tokenizer = models.load_trained(options.model)
        models.save_whole(model.merge_and_unload().to(getattr(torch, options.dtype)), tokenizer, options.out)


def run() -> None:
    """Parse, then import what the work needs and do it."""
    options = command.parse(Options, "python -m lm.merge", __doc__)
    options.check()
    os.environ.setdefault("TQDM_DISABLE", "1")  # the bars of GGUF's reader
    command.quieten()
    merge(options)
    print(f"Written to {options.out}")


def main() -> None:
    """The command."""
    command.main(run, "interrupted: nothing was written")


if __name__ == "__main__":
    main()
