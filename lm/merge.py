"""Fold a trained adapter into its base model, as safetensors that plain transformers loads, and as GGUF if asked for.

Examples:
  python -m lm.merge --model results/lm-ift/model --out merged
  python -m lm.merge --model results/lm-ift/model --out merged --gguf llama.cpp/convert_hf_to_gguf.py
"""

import os
import subprocess
import sys
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
    gguf: Path | None = None
    """llama.cpp's script convert_hf_to_gguf.py, which comes with its sources: write OUT.gguf with it as well."""

    @property
    def gguf_file(self) -> Path:
        return self.out.with_name(f"{self.out.name}.gguf")

    def check(self) -> None:
        """Raise `ValueError` for a folder that is no adapter, or a script that does not exist."""
        folder = Path(self.model).expanduser()
        if folder.is_file():
            raise ValueError(
                f"model {self.model!r} is a file: an adapter is a folder, as lm.train leaves it under model/"
            )
        if not folder.is_dir():
            raise ValueError(f"model {self.model!r}: there is no such folder")
        if not (folder / "adapter_config.json").is_file():
            raise ValueError(f"model {self.model!r} holds no adapter (adapter_config.json): there is nothing to merge")
        if self.gguf is not None and not self.gguf.is_file():
            raise ValueError(
                f"gguf {str(self.gguf)!r} is not there: git clone https://github.com/ggml-org/llama.cpp has it, as "
                "llama.cpp/convert_hf_to_gguf.py"
            )
        if self.gguf is not None and self.gguf_file.exists():
            raise ValueError(f"out: {str(self.gguf_file)!r} exists already: name another")


def merge(options: Options) -> None:
    """Write the merged model, whole or not at all; raises `ValueError` for an `out` that exists, or a bad model."""
    import torch

    from common import models
    from common.folders import writing

    models.offline()
    with writing(options.out, new=True):
        model, tokenizer = models.load_trained(options.model)
        models.save_whole(model.merge_and_unload().to(getattr(torch, options.dtype)), tokenizer, options.out)


def convert(options: Options) -> None:
    """Write the merged model as a .gguf file, whole or not at all; raises `FailedError` where the script fails."""
    from common.folders import write_whole, writing

    kind = {"bfloat16": "bf16", "float32": "f32"}[options.dtype]

    def write(part: Path) -> None:
        words = [str(options.gguf), str(options.out), "--outfile", str(part), "--outtype", kind]
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        if done.returncode or not part.is_file():
            reason = (done.stderr.strip() or "it wrote no file").splitlines()[-1]
            raise command.FailedError(
                f"{options.gguf} failed ({reason}); the merged model is in {options.out}, and llama.cpp/requirements "
                "has what the script needs"
            )

    with writing(options.gguf_file):
        write_whole(options.gguf_file, write)


def run() -> None:
    """Parse, then import what the work needs and do it."""
    options = command.parse(Options, "python -m lm.merge", __doc__)
    options.check()
    os.environ.setdefault("TQDM_DISABLE", "1")  # the bars of GGUF's reader
    command.quieten()
    merge(options)
    print(f"Written to {options.out}")
    if options.gguf is not None:
        convert(options)
        print(f"Written to {options.gguf_file}")


def main() -> None:
    """The command."""
    command.main(run, "interrupted: nothing is half-written")


if __name__ == "__main__":
    main()
