"""Chat with a model in the terminal, with its chat template; the answers appear as they are made. Ctrl-D ends.

Examples:
  python -m lm.chat --model results/lm-ift/model
  python -m lm.chat --model HuggingFaceTB/SmolLM2-135M-Instruct --temperature 0.7
"""

import os
import sys
from dataclasses import dataclass
from typing import Any

from common import command

Chat = list[dict[str, str]]


@dataclass(frozen=True)
class Options:
    """Which model, and how it answers."""

    model: str = "tiny-lake"
    """Folder with config, tokenizer and safetensors (or an adapter), .gguf file, name of the Hub, or tiny-lake."""
    system: str = ""
    """What the model is told first."""
    max_new_tokens: int = 512
    """Longest answer, in tokens."""
    temperature: float = 0.0
    """0 takes the likeliest token, always; above 0 it samples."""
    seed: int = 0
    """Seed of the samples."""

    def check(self) -> None:
        """Raise `ValueError` for a bad option."""
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.temperature != 0 and not 0.01 <= self.temperature < float("inf"):  # divided by less, logits overflow
            raise ValueError(f"temperature must be 0, or at least 0.01 and finite; got {self.temperature}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, 2**32 − 1], got {self.seed}")
        _check_text("system", self.system)


def _check_text(name: str, text: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # bytes that Python could not decode
        raise ValueError(f"{name} must be UTF-8 text")


def answer(model: Any, tokenizer: Any, chat: Chat, options: Options, streamer: Any = None) -> str:
    """The model's next turn.

    Raises:
        ValueError: the chat fills the model's context.
    """
    import torch

    from common.generation import tokens_only

    asked = _ids(tokenizer, chat)
    if not asked:
        raise ValueError("the model's chat template makes no text of the chat: look at its tokenizer's chat_template")
    context = getattr(model.config, "max_position_embeddings", None) or len(asked) + options.max_new_tokens
    if len(asked) >= context:
        raise ValueError(f"the chat has {len(asked)} tokens, the model's context {context}: begin a new one")
    inputs = {"input_ids": torch.tensor([asked]), "attention_mask": torch.ones(1, len(asked), dtype=torch.long)}
    sampling = {"do_sample": True, "temperature": options.temperature} if options.temperature else {"do_sample": False}
    with tokens_only(model):
        tokens = model.generate(
            **{name: value.to(model.device) for name, value in inputs.items()},
            **sampling,
            max_new_tokens=min(options.max_new_tokens, context - len(asked)),
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            streamer=streamer,
        )
    return str(tokenizer.decode(tokens[0, len(asked) :], skip_special_tokens=True)).strip()


def _ids(tokenizer: Any, chat: Chat) -> list[int]:
    from common.models import reason

    if tokenizer.chat_template is None:  # trained on prompt and answer as they are
        return list(tokenizer("\n".join(turn["content"] for turn in chat))["input_ids"])
    try:
        rendered = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
    except Exception as error:  # a template is code of somebody else, and raises what it likes
        raise ValueError(f"the model's chat template refuses the chat ({reason(error)})") from error
    return list(rendered["input_ids"])


def talk(options: Options) -> None:
    """Read turns from the terminal (or lines from a pipe) and answer each, until there are no more.

    Raises:
        ValueError: a model that cannot be loaded, a chat that fills its context.
    """
    import torch
    from transformers import TextStreamer

    from common import models
    from common.generation import require_tokens
    from lm.lake import play, tiny

    models.offline()
    on_gpu = torch.cuda.is_available()
    model, tokenizer = models.load_trained(tiny.located(options.model), torch.bfloat16 if on_gpu else torch.float32)
    require_tokens(model, options.model)
    model.eval().to("cuda" if on_gpu else "cpu")
    play.seed_samples(options.seed)
    chat: Chat = [{"role": "system", "content": options.system}] if options.system else []
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip():
            _check_text("what you say", line)
            chat.append({"role": "user", "content": line})
            chat.append({"role": "assistant", "content": answer(model, tokenizer, chat, options, streamer)})


def run() -> None:
    """Parse, then import what the work needs and do it."""
    options = command.parse(Options, "python -m lm.chat", __doc__)
    options.check()
    os.environ.setdefault("TQDM_DISABLE", "1")  # the bars of GGUF's reader
    command.quieten()
    talk(options)


def main() -> None:
    """The command."""
    command.main(run, "\ninterrupted: the chat is not kept")


if __name__ == "__main__":
    main()
