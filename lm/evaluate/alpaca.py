"""AlpacaEval: a model's answers in its format, and a judge's comparison of them through the `alpaca_eval` package."""

import functools
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from huggingface_hub import hf_hub_download
from rich.progress import track

from toy.store import write_whole

# The package's judge of each version, and where AlpacaEval keeps its instructions with the reference's answers.
_JUDGES = {"1": "alpaca_eval_gpt4", "2": "weighted_alpaca_eval_gpt4_turbo"}
_INSTRUCTIONS = {"1": "alpaca_eval.json", "2": "alpaca_eval_gpt4_baseline.json"}
_TRIES = 3
_PAUSE_SECONDS = 0.5
_AT_ONCE = 5


@dataclass(frozen=True)
class AlpacaOptions:
    """Suite alpaca-eval."""

    instructions: Path | None = None
    """JSON file of instructions with a reference's outputs; AlpacaEval's own, from the Hub, if not given."""
    judge: str | None = None
    """Model that compares the answers; without one the answers are written. Its key is read from OPENAI_API_KEY."""
    judge_url: str = "https://api.openai.com/v1"
    """Endpoint that speaks OpenAI's protocol."""
    judge_version: Literal["1", "2"] = "2"
    """AlpacaEval 1 (the judge ranks two answers) or 2 (its probabilities weigh them)."""
    judge_timeout_seconds: float = 60.0
    """Seconds after which the judge is asked again; three tries, then the pair counts as failed."""


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
        rows = json.loads(file.read_text())
        complete = [isinstance(row["instruction"], str) and isinstance(row["output"], str) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"instructions {str(file)!r} must be a JSON list of objects with instruction and output "
            f"({type(error).__name__}: {error})"
        ) from error
    if not all(complete) or not complete:
        raise ValueError(f"instructions {str(file)!r} must hold instruction and output as text, at least once")
    return file


def write_answers(samples: list[dict[str, Any]], name: str, file: Path) -> None:
    """Write answers that the harness gathered as AlpacaEval reads them."""
    answers = [
        {
            "dataset": sample["doc"]["dataset"],
            "instruction": sample["doc"]["instruction"],
            "output": sample["filtered_resps"][0].strip(),
            "generator": name,
        }
        for sample in sorted(samples, key=lambda sample: sample["doc_id"])
    ]
    write_whole(file, lambda path: path.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n"))


def judged(answers: Path, instructions: Path, options: AlpacaOptions, out: Path) -> dict[str, Any]:
    """The judge's verdict: `win_rate` and `standard_error` in percent, `judged` and `failed` pairs, what else the
    package reports. What was judged is kept in `out/judged-VERSION.json`; failed pairs are asked again the next time.

    Raises:
        ValueError: no key, no package, or a judge that gives no usable answer at all.
    """
    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        raise ValueError("the judge's key is missing: set OPENAI_API_KEY (to anything, if the endpoint wants none)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import alpaca_eval
            import openai
    except ImportError as error:
        raise ValueError("alpaca_eval is missing: pip install -e '.[judge]' -c constraints.txt") from error
    name = _JUDGES[options.judge_version]
    config_file = alpaca_eval.constants.EVALUATORS_CONFIG_DIR / name / "configs.yaml"
    config = yaml.safe_load(config_file.read_text())[name]
    completions = config["completions_kwargs"] | {"model_name": options.judge}
    parse = functools.partial(
        getattr(alpaca_eval.completion_parsers, config["fn_completion_parser"]),
        **config.get("completion_parser_kwargs", {}),
    )
    key_of_answer = config.get("completion_key", "completions")
    client = openai.OpenAI(
        api_key=key, base_url=options.judge_url, timeout=options.judge_timeout_seconds, max_retries=0
    )
    problems: list[str] = []

    def ask_all(prompts: Sequence[str], **arguments: Any) -> dict[str, list[Any]]:
        one = functools.partial(_ask, client, parse, key_of_answer, problems, **arguments)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            messages = map(alpaca_eval.utils.prompt_to_chatml, prompts)
            return {key_of_answer: list(track(pool.map(one, messages), "judging", len(prompts), transient=True))}

    mine = json.loads(answers.read_text())
    asked = {answer["instruction"] for answer in mine}
    reference = [row for row in json.loads(instructions.read_text()) if row["instruction"] in asked]
    _, annotations = alpaca_eval.evaluate(
        model_outputs=mine,
        reference_outputs=[{"generator": "reference", **row} for row in reference],
        annotators_config={options.judge: config | {"fn_completions": ask_all, "completions_kwargs": completions}},
        precomputed_leaderboard=None,
        output_path=None,
        is_return_instead_of_print=True,
        fn_metric="get_winrate",
        annotator_kwargs={
            "caching_path": str(out / f"judged-{options.judge_version}.json"),
            "is_store_missing_annotations": False,
        },
    )
    preferences = [a["preference"] for a in annotations if not pd.isna(a["preference"])]
    if not preferences:
        raise ValueError(f"judge {options.judge!r} gave no usable answer to {len(mine)} pairs ({problems[-1]})")
    found = alpaca_eval.metrics.get_winrate([{"preference": preference} for preference in preferences])
    scores = {score: float(value) for score, value in found.items()}
    return scores | {"judged": len(preferences), "failed": len(mine) - len(preferences)}


def _ask(
    client: Any,
    parse: Callable[[Any], list[Any]],
    key_of_answer: str,
    problems: list[str],
    messages: list[dict[str, str]],
    model_name: str,
    **arguments: Any,
) -> Any:
    """What the judge says of a pair, asked again where it fails or says nothing usable; in the end nothing: a failure
    is left out of the win rate by the package, and counted."""
    for attempt in range(_TRIES):
        try:
            choice = client.chat.completions.create(model=model_name, messages=messages, **arguments).choices[0]
            text = choice.message.content or ""
            said: Any = choice.model_dump() | {"text": text} if key_of_answer == "completions_all" else text
            if not any(pd.isna(preference) for preference in parse(said)):
                return said
            problems.append(f"it said {text!r}")
        except Exception as error:  # of the endpoint, or of the package's parsers, which raise all sorts on nonsense
            problems.append(f"{type(error).__name__}: {error}")
        time.sleep(2**attempt * _PAUSE_SECONDS)
    return {} if key_of_answer == "completions_all" else ""
