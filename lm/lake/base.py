"""The small model that reads the lake, and its training from nothing to a player that is not good yet."""

from collections.abc import Callable

import numpy as np
import torch
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from lm.lake.maps import random_maps, walks
from lm.lake.words import in_words, make_tokenizer, prompt

NOISE = 0.3  # share of random moves in the walks of the base corpus


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> MistralForCausalLM:
    """A Mistral of 0.8M parameters with new weights."""
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, sliding_window=None, bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(seed)
        return MistralForCausalLM(config)


def train_base(
    seed: int, updates: int = 250, report: Callable[[float], None] = lambda share: None
) -> MistralForCausalLM:
    """A model that has read 64 noisy walks per update (30 % of the moves random): it plays, but not well."""
    generator = np.random.default_rng([seed, 0])
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed)
    letters = random_maps(20_000, "train", generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=updates, pct_start=0.1)
    for update in range(updates):
        drawn = letters[generator.integers(len(letters), size=64)]
        noisy, _ = walks(drawn, NOISE, generator)
        texts = [
            f"<|user|> {prompt(rows)} <|assistant|> {in_words(walk)} <eos>"
            for rows, walk in zip(drawn, noisy, strict=True)
        ]
        batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        begins = batch["input_ids"] == tokenizer.convert_tokens_to_ids("<|assistant|>")
        answer = (begins.cumsum(1) > 0) & ~begins & (batch["attention_mask"] == 1)
        labels = batch["input_ids"].masked_fill(~answer, -100)
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        report((update + 1) / updates)
    return model
