"""What `python -m bench.gpu` measures in a process a part: rows as plain dictionaries, JSON on the last line."""

import gc
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import bench.lm as steps
from bench import scaling
from bench.report import seconds
from ift import heads, ift_loss
from lm.trainers import passes
from lm.trainers.forward import Residual, add_residual_forward

Row = dict[str, Any]
OWN_MODULES = {"qlora": "bitsandbytes", "trl sft, Liger": "liger_kernel"}
_PACKAGES = {"bitsandbytes": "bitsandbytes", "liger_kernel": "liger-kernel"}
NAMED = {  # peers that are not run here, and what that would need
    "LLaMA-Factory": "not run: it holds transformers and TRL to versions of its own, so it needs an environment of its "
    "own, a model folder, a dataset_info.json and `llamafactory-cli train`",
    "Unsloth": "not run: it needs a GPU with Triton and replaces layers of transformers when it is imported: it cannot "
    "be measured in the process of the others",
}


def missing(name: str) -> Row | None:
    """A row that says which package is missing, if one is."""
    module = OWN_MODULES.get(name)
    if module is None or importlib.util.find_spec(module):
        return None
    return {"name": name, "note": f"{_PACKAGES[module]} is not installed: pip install {_PACKAGES[module]}"}


def part_steps(options: Any) -> Iterator[Row]:
    """`python -m bench.lm`, in this process."""
    for benchmark in (steps.step_time, steps.compiled, steps.memory, steps.growth):
        for row in benchmark(options["quick"]):
            yield {"name": row.name, "note": f"{row.ours}, {row.peer}", "ratio": row.ratio, "target": row.target}


def trainings(options: Any, methods: tuple[str, ...], **changed: Any) -> Iterator[Row]:
    """Each method's training, reckoned and measured; the ratio is measured over reckoned memory."""
    many = options["processes"]
    asked = scaling.Options(
        size=options["size"], length=options["length"], at_a_time=options["sequences"], processes=many,
        batch_size=2 * many * options["sequences"], updates=4 if options["quick"] else 6,
    )  # fmt: skip
    asked = replace(asked, **changed)
    with tempfile.TemporaryDirectory() as folder:
        model, data = Path(folder) / "model", Path(folder) / "data.jsonl"
        scaling.write_model(asked.size, model)
        scaling.write_data(data, asked)
        for method in methods:
            try:
                cost = scaling.measure(method, model, data, asked)
            except Exception as error:  # out of memory, say: the other methods go on
                yield {"name": method, "note": f"failed: {str(error).splitlines()[0][:200]}"}
                continue
            ratio = cost["measured_gigabytes"] / cost["reckoned_gigabytes"]
            yield {"name": method, "seconds": cost.pop("seconds_per_update"), **cost, "ratio": ratio, "target": 1.05}


def part_weights(options: Any) -> Iterator[Row]:
    methods = ("SFT", "IFT", "IFT, lagged", "ORPO", "DPO")
    return trainings(options, methods[:2] if options["quick"] else methods)


def part_lora(options: Any) -> Iterator[Row]:
    methods = ("SFT", "IFT", "IFT, lagged", "DPO")
    return trainings(options, methods[:1] if options["quick"] else methods, lora_r=16)


def part_qlora(options: Any) -> Iterator[Row]:
    note = missing("qlora")
    if note:
        yield note
    else:
        yield from trainings(options, ("SFT", "IFT", "IFT, lagged", "DPO"), lora_r=16, load_in_4bit=True)


def make_model(size: str) -> Any:
    """Random weights of that size; bfloat16 on a GPU, so that 7B has room for its gradients and moments."""
    dtype = torch.bfloat16 if steps.DEVICE == "cuda" else torch.float32
    with torch.device(steps.DEVICE):
        return AutoModelForCausalLM.from_config(scaling.SIZES[size](), dtype=dtype)


def make_step(variant: str, options: Any) -> Callable[[], None]:
    model = make_model(options["size"])
    return steps.make_step(variant, options["sequences"], options["length"], model.config.vocab_size, model)


def timed(function: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Best seconds of a call until the device is done, and of the host until the call returns; two rounds warm up."""
    whole, host = [], []
    for _ in range(rounds + 2):
        synchronize()
        begin = time.perf_counter()
        function()
        host.append(time.perf_counter() - begin)
        synchronize()
        whole.append(time.perf_counter() - begin)
    return min(whole[2:]), min(host[2:])


def synchronize() -> None:
    if steps.DEVICE == "cuda":
        torch.cuda.synchronize()


def freed() -> None:
    gc.collect()
    if steps.DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def part_peers(options: Any) -> Iterator[Row]:
    """One variant after another, as two models of 7B do not fit; ratios are to TRL's SFT."""
    variants = ("trl sft", "trl sft, Liger", "trl sft, compiled", "own sft", "ift", "lagged")
    targets = {"ift": 1.15, "lagged": 1.02}
    tokens = options["sequences"] * options["length"]
    first: float | None = None
    peak_of_peer: float | None = None
    for variant in variants[::5] if options["quick"] else variants:
        if row := missing(variant):
            yield row
            continue
        freed()
        try:
            step = make_step(variant, options)
            took, _ = timed(step, 2 if options["quick"] else 5)
        except Exception as error:  # no compiler, no memory: the others go on
            yield {"name": variant, "note": f"failed: {str(error).splitlines()[0][:200]}"}
            continue
        peak = torch.cuda.max_memory_allocated() / 1e9 if steps.DEVICE == "cuda" else None
        del step
        first = took if first is None else first
        peak_of_peer = (
            peak if variant.startswith("trl sft") else peak_of_peer
        )  # the last of TRL's: with Liger, if it ran
        row = {"name": variant, "seconds": took, "tokens_per_second": tokens / took, "ratio": took / first}
        row |= {"target": targets[variant]} if variant in targets else {}
        if peak is not None and peak_of_peer is not None:
            row |= {"measured_gigabytes": peak, "memory_ratio": peak / peak_of_peer}  # to TRL's with Liger, if it ran
        yield row
    yield from ({"name": name, "note": note} for name, note in NAMED.items())


def part_ift(options: Any) -> Iterator[Row]:
    """Forward calls, heads and the way back, one by one; `host` is what starting them took."""
    model = make_model(options["size"])
    batch = steps.make_batch(options["sequences"], options["length"], model.config.vocab_size)
    step = steps.make_step("ift", options["sequences"], options["length"], model.config.vocab_size, model)
    rounds = 2 if options["quick"] else 5
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    answers = (batch["labels"][:, 1:] != -100).nonzero(as_tuple=True)

    def autocast() -> Any:
        return torch.autocast(steps.DEVICE, torch.bfloat16, enabled=steps.DEVICE == "cuda")

    def pass_1() -> torch.Tensor:
        with torch.no_grad(), autocast():
            return model.base_model(**inputs).last_hidden_state

    def pass_2() -> torch.Tensor:
        with autocast():
            return model.base_model(**inputs).last_hidden_state

    hidden = pass_1()[answers].detach().requires_grad_()
    weight, targets = model.get_output_embeddings().weight, batch["labels"][:, 1:][answers]

    def head_and_back() -> None:
        heads.target_scores(hidden.to(weight.dtype), weight, None, targets).log_probs.sum().backward()

    def whole_pass() -> None:
        pass_2().sum().backward()

    functions = {
        "pass 1, backbone": pass_1,
        "pass 1, head": lambda: heads.next_tokens(hidden.detach().to(weight.dtype), weight, None, targets),
        "pass 2, backbone, forward": pass_2,
        "pass 2, backbone, forward and back": whole_pass,
        "pass 2, head, forward and back": head_and_back,
        "the step with AdamW": step,
    }
    for name, function in functions.items():
        took, host = timed(function, rounds)
        yield {"name": name, "seconds": took, "host_seconds": host}


def part_prompt(options: Any) -> Iterator[Row]:
    """The one step both ways: where sharing is faster, `passes.SHARED_ON` should name the device."""
    step, usual = make_step("ift", options), (passes.SHARED_ON, passes.LEAST_WORK)
    passes.LEAST_WORK = 0.0
    whole = 0.0
    for name, devices in (("each pass whole", ()), ("prompt shared", ("cpu", "cuda"))):
        passes.SHARED_ON = devices
        took, host = timed(step, 2 if options["quick"] else 5)
        whole = whole or took
        yield {"name": name, "seconds": took, "host_seconds": host, "ratio": took / whole}
    passes.SHARED_ON, passes.LEAST_WORK = usual


def part_launches(options: Any) -> Iterator[Row]:
    """0.8M parameters on 8 × 64 tokens: the model as it is, compiled, and compiled with CUDA graphs."""
    ways: dict[str, dict[str, Any] | None] = {"as it is": None, "torch.compile": {}}
    if steps.DEVICE == "cuda":
        ways["torch.compile, CUDA graphs"] = {"mode": "reduce-overhead"}
    for variant in ("own sft", "ift"):
        first = 0.0
        for name, how in list(ways.items())[: 1 if options["quick"] else None]:
            model = AutoModelForCausalLM.from_config(
                LlamaConfig(hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
                            vocab_size=1024)
            )  # fmt: skip
            if how is not None:
                model.base_model.compile(**how)
            try:
                step = steps.make_step(variant, 8, 64, 1024, model)
                (took,) = seconds(step, rounds=5)
            except Exception as error:  # no compiler
                yield {"name": f"{variant}, {name}", "note": f"failed: {str(error).splitlines()[0][:200]}"}
                continue
            first = first or took
            yield {"name": f"{variant}, {name}", "seconds": took, "ratio": took / first}


def part_parity(options: Any) -> Iterator[Row]:
    """IFT's loss and gradients with bfloat16 arithmetic beside float32; the predictions are those of float32.

    The ratio is the difference over the value. bfloat16 keeps 8 bits, so one rounding is 2⁻⁹; the bound is 8 of them.
    """
    model = make_model(options["size"]).float()
    add_residual_forward(model)
    batch = steps.make_batch(options["sequences"], options["length"], model.config.vocab_size)
    with torch.no_grad():
        predicted = model(**batch, residual=Residual(0.2)).predicted
    found = {}
    for half in (False, True):
        model.zero_grad()
        with torch.autocast(steps.DEVICE, torch.bfloat16, enabled=half):
            outputs = model(**batch, residual=Residual(0.2, predicted=predicted))
        loss = ift_loss(outputs.log_probs.float(), outputs.label_mask, 0.95).mean()
        loss.backward()
        found[half] = loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    (value, gradients), (half_value, half_gradients) = found[False], found[True]
    yield {"name": "loss", "ratio": abs(half_value - value) / abs(value), "target": 8 * 2**-9}
    of = {name: float((half_gradients[name] - g).norm() / g.norm()) for name, g in gradients.items() if g.norm() > 0}
    worst = max(of, key=lambda name: of[name])
    total = sum(float((half_gradients[n] - g).norm() ** 2) for n, g in gradients.items()) ** 0.5
    size = sum(float(g.norm() ** 2) for g in gradients.values()) ** 0.5
    yield {"name": "all gradients", "ratio": total / size, "target": 8 * 2**-9}
    yield {"name": "the gradient that differs most", "ratio": of[worst], "note": worst}


if __name__ == "__main__":
    steps.quiet()
    measured = list(globals()[f"part_{sys.argv[1]}"](json.loads(sys.argv[2])))
    print(json.dumps(measured))
