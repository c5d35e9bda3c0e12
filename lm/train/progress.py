"""What a training shows while it goes on: its losses, those on held-out data, answers to a few held-out prompts."""

import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from transformers import TrainerCallback

from common.command import progress_bar
from common.folders import read_rows, reading, write_whole
from common.generation import tokens_only

ANSWERS = "answers.jsonl"
_ANSWER_TOKENS = 64


class Progressing(TrainerCallback):
    """A progress bar with the loss and tokens per second on a terminal, lines elsewhere; checkpoints without paths."""

    def __init__(self, console: Console):
        self.console = console
        self.bar = progress_bar(console)
        self.training = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.task = self.bar.add_task("training", total=state.max_steps, completed=state.global_step)
        self.bar.start()
        self.training = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            rate = f" · {logs['tokens_per_second']:,.0f} tokens/s" if "tokens_per_second" in logs else ""
            line = f"loss {logs['loss']:.4f}{rate}"
            self.bar.update(self.task, description=line)
            if not self.console.is_terminal:
                self.console.print(f"update {state.global_step}/{state.max_steps} {line}")

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        if self.training and metrics and "eval_loss" in metrics:  # the last one is told with the summary
            self.console.print(f"update {state.global_step}/{state.max_steps} held-out loss {metrics['eval_loss']:.4f}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # torch.save of the arguments, with paths of this machine; nothing reads it.
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / "training_args.bin").unlink(missing_ok=True)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.bar.stop()
        self.training = False


class Answering(TrainerCallback):
    """At each evaluation, greedy answers to the first held-out prompts: on the console and in the run's folder.

    `rows` are encoded ones. A `resumed` run drops the answers of updates that it makes again.
    """

    def __init__(self, console: Console, tokenizer: Any, rows: Any, count: int, file: Path, resumed: bool):
        self.console, self.tokenizer, self.file = console, tokenizer, file
        self.prompts = [_prompt_of(row) for row in rows.select(range(min(count, len(rows))))]
        with reading(file):
            kept = read_rows(file) if resumed and file.is_file() else []
            self.rows = [row | {"step": int(row["step"])} for row in kept]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.rows = [row for row in self.rows if row["step"] <= state.global_step]

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if self.rows and self.rows[-1]["step"] == state.global_step:
            return  # the evaluation at the end repeats the last one
        answers = [_answer(model, self.tokenizer, prompt) for prompt in self.prompts]
        for prompt, answer in zip(self.prompts, answers, strict=True):
            self.rows.append({"step": state.global_step, "prompt": self.tokenizer.decode(prompt), "answer": answer})
            asked = _shortened(self.tokenizer.decode(prompt, skip_special_tokens=True))
            self.console.print(Text(f"update {state.global_step}/{state.max_steps} asked {asked!r} answers: {answer}"))
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        write_whole(self.file, lambda path: path.write_text(lines, encoding="utf-8"))


def _shortened(text: str, longest: int = 60) -> str:
    """A text in one line: of a long one its beginning and its end, as prompts often begin or end alike."""
    text = " ".join(text.split())
    half = (longest - 3) // 2
    return text if len(text) <= longest else f"{text[:half].rstrip()} … {text[-half:].lstrip()}"


def _prompt_of(row: dict[str, Any]) -> list[int]:
    """The tokens of a row before its first answer."""
    if "prompt_ids" in row:
        return list(row["prompt_ids"])
    first = next(i for i, label in enumerate(row["labels"]) if label != -100)
    return list(row["input_ids"][: max(first, 1)])


def _answer(model: Any, tokenizer: Any, prompt: list[int]) -> str:
    was_training = model.training
    model.eval()
    ids = torch.tensor([prompt], device=model.device)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with torch.no_grad(), tokens_only(model):
        tokens = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=_ANSWER_TOKENS,
            do_sample=False,
            pad_token_id=pad,
        )
    model.train(was_training)
    return str(tokenizer.decode(tokens[0, len(prompt) :], skip_special_tokens=True)).strip()
