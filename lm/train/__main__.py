"""Fine-tune a language model with IFT, SFT, DPO or another method, see --method.

Without options it needs no network: a small model that plays Frozen Lake in words learns from 512 optimal walks.
Options come from --config FILE.yaml (lm/recipes has the paper's runs, each run's folder its config.yaml) and from the
command line, which wins.

Examples:
  python -m lm.train
  python -m lm.train --method ift --model mistralai/Mistral-7B-v0.1 --dataset ultrachat:60000 ultrafeedback
  python -m lm.train --model ./my-model --dataset mine.jsonl --eval-dataset held-out.jsonl --eval-steps 50
  python -m lm.train --config lm/recipes/mistral-7b-ift.yaml --dry-run
  accelerate launch --config_file lm/recipes/fsdp2.yaml -m lm.train --config lm/recipes/mistral-7b-ift.yaml
"""

import os
from contextlib import nullcontext

from common import command
from lm.train.command_line import as_yaml, parse_groups


def run() -> None:
    """Parse, then import what the work needs and do it."""
    groups = parse_groups(description=__doc__)
    settings = groups.settings()
    if groups.files.print_config:
        print(as_yaml(settings), end="")
        return
    os.environ.setdefault("TQDM_DISABLE", "1")  # the bars of GGUF's reader; ours are others
    command.quieten()
    from rich.console import Console

    from common import models

    models.offline()
    console = Console(quiet=int(os.environ.get("RANK", "0")) > 0, soft_wrap=True)
    if settings.dry_run:
        from lm.train.dry_run import show_estimate

        show_estimate(settings, console)
    else:
        from common.folders import working_in
        from lm.train.run_folder import folder_of
        from lm.train.seeds import train_seeds
        from lm.train.training import train

        # One process of a training that has several writes its folder.
        with nullcontext() if console.quiet else working_in(folder_of(settings), "output_dir"):
            (train_seeds if settings.seeds else train)(settings, console)


def main() -> None:
    """The command."""
    command.main(
        run,
        "interrupted: the same command with --resume goes on from the last checkpoint, or from the start where there "
        "is none yet (one is written every --save-steps updates)",
    )


if __name__ == "__main__":
    main()
