"""AlpacaEval: a model's answers in its format, and a judge's comparison of them through the `alpaca_eval` package."""

import functools
import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import hf_hub_download

from common import models
from common.command import progress_bar
from common.folders import read_rows, reading, write_json, write_whole
from lm.evaluate.options import AlpacaOptions

# The package's judge of each version, and where AlpacaEval keeps its instructions with the reference's answers.
_JUDGES = {"1": "alpaca_eval_gpt4", "2": "weighted_alpaca_eval_gpt4_turbo"}
_INSTRUCTIONS = {"1": "alpaca_eval.json", "2": "alpaca_eval_gpt4_baseline.json"}
Parser = Callable[[Any], list[Any]]
_TRIES, _TRIES_WHEN_BUSY = 3, 8  # of a pair; a judge that answers "too many requests" is no judge that failed
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0  # doubled each time
_AT_ONCE = 5


def instructions_file(options: AlpacaOptions) -> Path:
    """The file of instructions.

    Raises:
        ValueError: it is not there, or is not in AlpacaEval's format.
    """
    file = options.instructions
    if file is None:
        name = _INSTRUCTIONS[options.judge_version]
        try:
            file = Path(hf_hub_download("tatsu-lab/alpaca_eval", name, repo_type="dataset"))
        except Exception as error:  # the network, the Hub and its cache each have their own
            raise ValueError(
                f"AlpacaEval's instructions could not be fetched from the Hub ({type(error).__name__}): name a copy of "
                f"{name} with --instructions"
            ) from error
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        complete = [isinstance(row["instruction"], str) and isinstance(row["output"], str) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"instructions {str(file)!r} must be a JSON list of objects with instruction and output "
            f"({type(error).__name__}: {error})"
        ) from error
    if not all(complete) or not complete:
        raise ValueError(f"instructions {str(file)!r} must hold instruction and output as text, at least once")
    return file


def write_answers(samples: Path, name: str, file: Path) -> None:
    """Write the answers in `samples`, which the harness gathered, as AlpacaEval reads them."""
    with reading(samples):
        answers = [
            {
                "dataset": sample["doc"]["dataset"],
                "instruction": sample["doc"]["instruction"],
                "output": sample["filtered_resps"][0].strip(),
                "generator": name,
            }
            for sample in sorted(read_rows(samples), key=lambda sample: sample["doc_id"])
        ]
    write_json(file, answers)


def require_key() -> str:
    """The judge's key; raises `ValueError` where the environment has none."""
    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        raise ValueError("the judge's key is missing: set OPENAI_API_KEY (to anything, if the endpoint wants none)")
    return key


def judged(answers: Path, instructions: Path, options: AlpacaOptions, out: Path) -> dict[str, Any]:
    """The judge's verdict: `win_rate` and `standard_error` in percent, `judged` and `failed` pairs, what else the
    package reports. Verdicts are kept in `out/judged-VERSION-JUDGE.json`; failed pairs are asked again next time.

    Raises:
        ValueError: no key, or a judge that gives no usable answer at all.
        ImportError: the extra `judge` is not installed.
    """
    key = require_key()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import alpaca_eval
        import openai
    answered = json.loads(answers.read_text(encoding="utf-8"))
    reference = json.loads(instructions.read_text(encoding="utf-8"))[: len(answered)]  # answers keep its order
    client = openai.OpenAI(
        api_key=key, base_url=options.judge_url, timeout=options.judge_timeout_seconds, max_retries=0
    )
    judge = str(options.judge)
    where = hashlib.sha256(f"{judge} {options.judge_url}".encode()).hexdigest()[:8]
    kept = out / f"judged-{options.judge_version}-{where}.json"
    _drop_failed(kept)
    annotator = alpaca_eval.annotators.PairwiseAnnotator(
        annotators_config=_JUDGES[options.judge_version], caching_path=str(kept)
    )
    (single,) = annotator.annotators.values()
    problems: list[str] = []
    # The package's own calls would give up on the first endpoint that is not OpenAI's, and stop where one fails.
    single.fn_completions = functools.partial(
        _ask_all, client, single.fn_completion_parser, single.completion_key, problems
    )
    single.completions_kwargs = single.completions_kwargs | {"model_name": judge}
    logging.disable()  # the package's parsers log a traceback for each answer that they cannot read
    try:
        annotations = annotator.annotate_head2head(
            outputs_1=[{"generator": "reference", **row} for row in reference],
            outputs_2=answered,
            is_ordered=True,
            chunksize=_AT_ONCE,  # kept after each chunk
        )
    finally:
        logging.disable(logging.NOTSET)
    preferences = [a["preference"] for a in annotations if not pd.isna(a["preference"])]
    if not preferences:
        raise ValueError(f"judge {options.judge!r} gave no usable answer to {len(answered)} pairs ({problems[-1]})")
    rates = alpaca_eval.metrics.get_winrate([{"preference": preference} for preference in preferences])
    scores = {score: float(value) for score, value in rates.items()}
    return scores | {"judged": len(preferences), "failed": len(answered) - len(preferences)}


def _drop_failed(kept: Path) -> None:
    """Leave only the pairs with a verdict in the package's file, so that it asks for the others again."""
    if not kept.is_file():
        return
    with reading(kept):
        rows = json.loads(kept.read_text(encoding="utf-8"))
        rows = [row for row in rows if row["preference"] is not None and row["preference"] >= 0]
    if rows:
        write_whole(kept, lambda path: path.write_text(json.dumps(rows), encoding="utf-8"))
    else:
        kept.unlink()  # the package reads no empty file


def _ask_all(
    client: Any, parse: Parser, answer_key: str, problems: list[str], prompts: Sequence[str], **arguments: Any
) -> dict[str, list[Any]]:
    """The judge's answers to all prompts, in the package's form."""
    from alpaca_eval.utils import prompt_to_chatml

    one = functools.partial(_ask, client, parse, answer_key, problems, **arguments)
    with ThreadPoolExecutor(_AT_ONCE) as pool, progress_bar(count="pairs") as bar:
        verdicts = pool.map(one, map(prompt_to_chatml, prompts))
        return {answer_key: list(bar.track(verdicts, len(prompts), description="judging"))}


def _ask(
    client: Any,
    parse: Parser,
    answer_key: str,
    problems: list[str],
    messages: list[dict[str, str]],
    model_name: str,
    **arguments: Any,
) -> Any:
    """What the judge says of a pair, asked again where it fails or says nothing usable; in the end nothing: a failure
    is left out of the win rate by the package, and counted."""
    failures = waits = 0
    while failures < _TRIES and waits < _TRIES_WHEN_BUSY:
        if failures or waits:
            time.sleep(min(2 ** (failures + waits - 1) * _PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS))
        try:
            choice = client.chat.completions.create(model=model_name, messages=messages, **arguments).choices[0]
            text = choice.message.content or ""
            said: Any = choice.model_dump() | {"text": text} if answer_key == "completions_all" else text
            if not any(pd.isna(preference) for preference in parse(said)):
                return said
            failures += 1
            problems.append(f"it said {text!r}")
        except Exception as error:  # of the endpoint, or of the package's parsers, which raise all sorts on nonsense
            status = getattr(error, "status_code", None)
            waits, failures = (waits + 1, failures) if status == 429 else (waits, failures + 1)
            if status in (401, 403, 404):  # key or model: no other pair will do better
                raise ValueError(
                    f"judge {model_name!r}: {models.reason(error)}".replace(client.api_key, "***")
                ) from error
            problems.append(f"{type(error).__name__}: {models.reason(error)}".replace(client.api_key, "***"))
    return {} if answer_key == "completions_all" else ""
