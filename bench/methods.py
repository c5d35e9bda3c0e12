"""What an update of each method costs, in one run: `python -m bench.methods [--quick] [--json FILE]`.

On the lake: an update of 256 policies on `ring`. On language models: a step of a Mistral of 57M
parameters on 2 examples of 256 tokens, half of them prompt; an example is one answer for SFT and IFT and a pair for DPO
and ORPO. SFT is IFT with λ = 0 and γ = 0, so that both have the same head; DPO is TRL's. `--quick` has 8,000 words in
place of 32,000, and 128 tokens, and measures no memory. Times are the best of some rounds taken in turns; memory is the
peak of a process of its own. `python -m figures paradigms` draws them.
"""

import copy
import json
import multiprocessing
import tempfile
from collections.abc import Callable
from typing import Any

import tyro

from bench.report import Options, seconds
from common.command import main
from common.memory import peak_gigabytes
from ift import METHODS
from toy import Lake, Settings
from toy.stages import Problem, fine_tune, start_policies

LAKE_METHODS = ("sft", "ift", "orpo", "dpo", "ppo")
LANGUAGE_METHODS = ("sft", "ift", "ift lagged", "orpo", "dpo")
RUNS, UPDATES = 256, 20


def lake_costs(quick: bool) -> dict[str, dict[str, float]]:
    """Seconds per update of 256 policies."""
    settings = Settings(steps=UPDATES)
    problem = Problem.of(Lake.make("ring"), settings.shared())
    start, _ = start_policies(problem, range(RUNS))

    def train(method: str) -> Callable[[], object]:
        numbers = settings.numbers_of(METHODS[method])
        return lambda: fine_tune(problem, METHODS[method], numbers, start, range(RUNS))

    best = seconds(*(train(method) for method in LAKE_METHODS), rounds=2 if quick else 5)
    return {method: {"seconds": took / UPDATES} for method, took in zip(LAKE_METHODS, best, strict=True)}


def language_costs(quick: bool) -> dict[str, dict[str, float]]:
    """Seconds and, if not quick, peak gigabytes of a training step."""
    best = seconds(*(_step(method, quick) for method in LANGUAGE_METHODS), rounds=2 if quick else 15)
    costs = {method: {"seconds": took} for method, took in zip(LANGUAGE_METHODS, best, strict=True)}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for method in () if quick else LANGUAGE_METHODS:
            costs[method]["gigabytes"] = pool.apply(_peak_of_step, (method,))
    return costs


def _step(variant: str, quick: bool) -> Callable[[], None]:
    """Forward, backward and AdamW of a method, with a model of its own."""
    import torch
    from datasets import Dataset

    from bench.lm import make_model, quiet
    from lm.lake import make_tokenizer
    from lm.train.methods import make_arguments, make_trainer
    from lm.train.settings import TrainSettings

    quiet()
    method, _, lagged = variant.partition(" ")
    settings = TrainSettings(method=method, prediction="lagged" if lagged else "greedy")
    if method == "sft":
        settings = TrainSettings(method="ift", lam=0.0, gamma=0.0)
    vocabulary, half = (8_000, 64) if quick else (32_000, 128)
    model = make_model(vocabulary, 2 * half)
    tokens = torch.randint(6, vocabulary, (2, 3, half), generator=torch.Generator().manual_seed(0)).tolist()
    rows: list[dict[str, Any]] = [
        {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        if method in ("dpo", "orpo")
        else {"input_ids": prompt + chosen, "labels": [-100] * half + chosen}
        for prompt, chosen, rejected in tokens
    ]
    options = {
        "output_dir": tempfile.mkdtemp(), "use_cpu": True, "bf16": False, "report_to": "none",
        "gradient_checkpointing": False, "per_device_train_batch_size": 2, "max_length": 2 * half,
    }  # fmt: skip
    reference = copy.deepcopy(model) if method == "dpo" else None
    arguments = make_arguments(settings, options)
    data = Dataset.from_list(rows)
    trainer = make_trainer(settings, arguments, model, reference, data, None, processing_class=make_tokenizer())
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    (batch,) = trainer.get_train_dataloader()

    def step() -> None:
        trainer.training_step(trainer.model, dict(batch))
        optimizer.step()
        optimizer.zero_grad()

    step()  # for lagged predictions, the first epoch
    return step


def _peak_of_step(variant: str) -> float:
    _step(variant, quick=False)()
    return peak_gigabytes()


def bench_methods() -> None:
    """The command."""
    options = tyro.cli(Options, prog="python -m bench.methods", description=__doc__)
    costs = {"lake": lake_costs(options.quick), "language": language_costs(options.quick)}
    for kind, by_method in costs.items():
        for method, cost in by_method.items():
            share = cost["seconds"] / by_method["sft"]["seconds"]
            memory = f", {cost['gigabytes']:.2f} GB" if "gigabytes" in cost else ""
            print(f"{kind}: {method} {cost['seconds']:.4f} s an update, {share:.2f} of SFT's{memory}")
    if options.json:
        options.json.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(bench_methods)
