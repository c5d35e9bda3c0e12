"""Prompts in, pairs out: sampled and scored batch by batch; a run that was stopped continues."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from common import models
from common.command import progress_bar
from common.folders import write_whole, writing
from lm.pairs.options import Options
from lm.pairs.sampling import sampler_of
from lm.pairs.scoring import Answer, Messages, scorer_of
from lm.train import data
from lm.train.models import load_tokenizer
from lm.train.settings import TrainSettings
from lm.train.tokens import rendered, require_tools

Pair = dict[str, Any]


def make(options: Options) -> str:
    """Write the file of pairs, as the only process that does; a sentence on what came out.

    What is made is kept beside the file until it is whole, so that the same command goes on after a stop, and ends
    with the same file.

    Raises:
        ValueError: an `out` that exists; a model, data or a scorer that cannot be used; no prompt that gives a pair.
    """
    work = options.out.with_name(f".{options.out.name}.work")
    if options.out.is_file():  # a run that was killed when it was done leaves its work
        work.unlink(missing_ok=True)
    with writing(options.out, new=True):
        return _make(options, work)


def _make(options: Options, work: Path) -> str:
    head = {name: str(value) for name, value in asdict(options).items() if name != "out"}
    models.offline()
    tokenizer = load_tokenizer(TrainSettings(model=options.model, chat_template=options.chat_template))
    rows = _prompts(options, tokenizer)
    done = _begun(work, head)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if len(done) < len(rows):
        _go_on(options, rows, done, tokenizer, lambda made: _note(work, head, made))
    pairs = [pair for pair in done if pair is not None]
    if not pairs:
        work.unlink(missing_ok=True)  # nothing is left to go on with, and other options may give pairs
        raise ValueError(f"dataset {options.dataset!r} gives no pair: {_why_none(options)}")
    lines = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
    write_whole(options.out, lambda path: path.write_text(lines, encoding="utf-8"))
    work.unlink()
    left = f"; {len(rows) - len(pairs):,} prompts gave none: {_why_none(options)}" if len(pairs) < len(rows) else ""
    return f"Written to {options.out}: {len(pairs):,} pairs of {len(rows):,} prompts{left}"


def _why_none(options: Options) -> str:
    if options.chosen == "best":
        return "all samples have the same score"
    return "no sample is worse than the data's answer"


def _prompts(options: Options, tokenizer: Any) -> list[dict[str, Any]]:
    """Prompts with the data's first answers; rows that have no text in one of them are left out."""
    columns = data.column_names(options.columns)
    check = partial(require_tools, tokenizer=tokenizer)
    loaded = data.load((options.dataset,), False, options.seed, columns=columns, note=print, check=check)
    rows = loaded.to_list()
    rows = [row | {"completion": row["completion"][:1]} for row in rows if row["prompt"]]
    kept = [row for row in rows if row["completion"] and row["completion"][0]["content"]]
    if not kept:
        raise ValueError(f"dataset {options.dataset!r} has no row with a prompt and an answer")
    return kept


def _begun(work: Path, head: dict[str, str]) -> list[Pair | None]:
    """What a stopped run has made: a pair or nothing for each prompt. Raises `ValueError` for another run's."""
    if not work.exists():
        return []
    try:
        *lines, cut = work.read_bytes().split(b"\n")  # a line that was cut short has no end
        held = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(work)!r} cannot be read: delete it to begin again") from error
    if not all(each is None or isinstance(each, dict) for each in held):
        raise ValueError(f"{str(work)!r} cannot be read: delete it to begin again")
    cut_at_once = not lines and json.dumps(head, ensure_ascii=False).encode().startswith(cut)
    if held[:1] != [head] and not cut_at_once:
        raise ValueError(f"{str(work)!r} is of a run with other options: delete it, or name another --out")
    if cut:
        with open(work, "r+b", opener=_no_link) as file:
            file.truncate(sum(len(line) + 1 for line in lines))
    return held[1:]


def _note(work: Path, head: dict[str, str], pairs: list[Pair | None]) -> None:
    """Add what was made to the file that a stopped run goes on from; it begins with the options."""
    notes = [*([] if work.exists() and work.stat().st_size else [head]), *pairs]
    work.parent.mkdir(parents=True, exist_ok=True)
    with open(work, "a", encoding="utf-8", opener=_no_link) as file:
        file.write("".join(json.dumps(note, ensure_ascii=False) + "\n" for note in notes))


def _no_link(path: str, flags: int) -> int:
    """The name can be guessed: a link that lies in wait there would have another file written."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _go_on(
    options: Options,
    rows: list[Pair],
    done: list[Pair | None],
    tokenizer: Any,
    note: Callable[[list[Pair | None]], None],
) -> None:
    """Make what is missing of `done`, and `note` it batch by batch."""
    sample, score = sampler_of(options, tokenizer), scorer_of(options)
    with progress_bar(count="prompts") as progress:
        bar = progress.add_task("sampling", total=len(rows), completed=len(done))
        for begin in _batches(len(done), len(rows), options.batch_size):
            batch = rows[begin : begin + options.batch_size]
            asked = [rendered(tokenizer, row["prompt"], row.get("tools"), asked=True) for row in batch]
            made: list[Pair | None] = []
            for row, texts in zip(batch, sample(asked, options.seed + begin), strict=True):
                made.append(_pair(row["prompt"], texts, row["completion"], score, options.chosen == "best"))
            made = made[len(done) - begin :]  # a stop can fall into a batch
            note(made)
            done.extend(made)
            progress.advance(bar, len(made))


def _batches(done: int, total: int, size: int) -> Iterator[int]:
    """Where batches begin; always the same places, so that a seed belongs to a batch."""
    return iter(range(done - done % size, total, size))


def _pair(prompt: Messages, texts: list[str], completion: Messages, score: Any, best: bool) -> Pair | None:
    """The worst of the sampled answers against the data's (or the best of them); None where it is not worse.

    Of equal scores the first counts.
    """
    target = completion[0]["content"]
    texts = [text for text in dict.fromkeys(texts) if text]
    if not texts:
        return None
    scores = score([Answer(prompt, text, target) for text in ([*texts] if best else [*texts, target.strip()])])
    worst = min(range(len(texts)), key=scores.__getitem__)
    top = max(range(len(texts)), key=scores.__getitem__) if best else len(texts)
    if scores[worst] >= scores[top]:
        return None
    chosen = [{"role": "assistant", "content": texts[top]}] if best else completion
    return {
        "prompt": prompt,
        "chosen": chosen,
        "rejected": [{"role": "assistant", "content": texts[worst]}],
        "chosen_score": scores[top],
        "rejected_score": scores[worst],
    }
