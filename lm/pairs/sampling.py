"""A model's own answers to prompts: by transformers' `generate`, or by vLLM where it is installed."""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from common import models
from common.generation import require_tokens, tokens_only
from lm.lake import tiny
from lm.lake.play import seed_samples
from lm.pairs.options import Options
from lm.train.models import adapter_of

Sampler = Callable[[list[list[int]], int], list[list[str]]]  # prompts as tokens, a seed → answers of each prompt


def sampler_of(options: Options, tokenizer: Any) -> Sampler:
    """What samples `options.samples` answers to each prompt.

    Raises:
        ValueError: a model that cannot be loaded, or vLLM where it cannot be had.
    """
    available = importlib.util.find_spec("vllm") is not None
    if options.engine == "vllm" or (options.engine == "auto" and available and torch.cuda.is_available()):
        if not available:
            raise ValueError("engine vllm needs a package that is not installed: pip install vllm")
        return _vllm(options, tokenizer)
    return _transformers(options, tokenizer)


def _transformers(options: Options, tokenizer: Any) -> Sampler:
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    model, _ = models.load_trained(tiny.located(options.model), dtype)
    require_tokens(model, options.model)
    model.eval().to("cuda" if on_gpu else "cpu")
    context = getattr(model.config, "max_position_embeddings", None)

    def sample(prompts: list[list[int]], seed: int) -> list[list[str]]:
        _require_room(prompts, context)
        inputs = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
        length = inputs["input_ids"].shape[1]
        room = options.max_new_tokens if context is None else min(options.max_new_tokens, context - length)
        with torch.no_grad(), torch.random.fork_rng(), tokens_only(model):
            seed_samples(seed)
            tokens = model.generate(
                **inputs,
                do_sample=True,
                temperature=options.temperature,
                top_p=options.top_p,
                top_k=0,
                num_return_sequences=options.samples,
                max_new_tokens=room,
                pad_token_id=tokenizer.pad_token_id,
            )
        said = [text.strip() for text in tokenizer.batch_decode(tokens[:, length:], skip_special_tokens=True)]
        return [said[i : i + options.samples] for i in range(0, len(said), options.samples)]

    return sample


def _require_room(prompts: list[list[int]], context: int | None) -> None:
    longest = max(map(len, prompts))
    if context is not None and longest >= context:
        raise ValueError(f"a prompt has {longest} tokens, the model's context {context}: leave it out")


def _vllm(options: Options, tokenizer: Any) -> Sampler:
    if adapter_of(options.model) is not None:
        raise ValueError(
            f"model {options.model!r} is an adapter: merge it for vLLM (lm.merge), or --engine transformers"
        )
    from vllm import LLM, SamplingParams  # an extra of the user's own

    engine = LLM(model=tiny.located(options.model), seed=options.seed)

    def sample(prompts: list[list[int]], seed: int) -> list[list[str]]:
        how = SamplingParams(
            n=options.samples,
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_new_tokens,
            seed=seed,
        )
        outputs = engine.generate([{"prompt_token_ids": ids} for ids in prompts], how, use_tqdm=False)
        return [[answer.text.strip() for answer in output.outputs] for output in outputs]

    return sample
