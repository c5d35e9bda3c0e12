"""What a training shows while it goes on."""

from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TrainerCallback

from common.command import progress_bar


class Progressing(TrainerCallback):
    """A progress bar with the loss and tokens per second on a terminal, lines elsewhere; checkpoints without paths."""

    def __init__(self, console: Console):
        self.console = console
        self.bar = progress_bar(console)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.task = self.bar.add_task("training", total=state.max_steps, completed=state.global_step)
        self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            rate = f" · {logs['tokens_per_second']:,.0f} tokens/s" if "tokens_per_second" in logs else ""
            line = f"loss {logs['loss']:.4f}{rate}"
            self.bar.update(self.task, description=line)
            if not self.console.is_terminal:
                self.console.print(f"update {state.global_step}/{state.max_steps} {line}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # torch.save of the arguments, with paths of this machine and perhaps a token; nothing reads it.
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / "training_args.bin").unlink(missing_ok=True)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.bar.stop()
