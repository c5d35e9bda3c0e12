"""Speed and memory of IFT's training step beside its peers, in one run: `python -m bench.lm [--quick] [--json FILE]`.

A step is forward, backward and AdamW of a Mistral of 57M parameters on 4 sequences of 256 tokens, half of them prompt.
The peers: TRL's SFTTrainer, full-logit SFT, and the released recipe of two passes with full logits. All are timed
in turns; the best time of each counts. Where there is a GPU it runs there, in bfloat16.
"""

import multiprocessing
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import datasets
import torch
import transformers
import tyro
from datasets import Dataset
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

import ift
from bench.report import Options, Row, run, seconds
from common.command import main
from common.memory import peak_gigabytes
from lm import IFTConfig, IFTTrainer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
VARIANTS = ("ift", "lagged", "own sft", "trl sft", "full sft", "full two-pass")


def make_model(vocabulary: int, longest: int) -> MistralForCausalLM:
    """Hidden 512, 8 layers; 57M parameters with 32,000 tokens."""
    config = MistralConfig(
        vocab_size=vocabulary, hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=longest, sliding_window=None, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return MistralForCausalLM(config)


def make_batch(sequences: int, length: int, vocabulary: int) -> dict[str, Tensor]:
    """Random tokens, the first half of each sequence without labels."""
    ids = torch.randint(2, vocabulary, (sequences, length), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, : length // 2] = -100
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return {name: value.to(DEVICE) for name, value in batch.items()}


def make_trainer(kind: type, config: type, model: MistralForCausalLM, **options: Any) -> Any:
    """A trainer around the model; only its loss is used."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>")),
        pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
    )  # fmt: skip
    args = config(
        output_dir=tempfile.mkdtemp(), use_cpu=DEVICE == "cpu", bf16=DEVICE == "cuda", report_to="none",
        gradient_checkpointing=False, **options,
    )  # fmt: skip
    rows = Dataset.from_list([{"input_ids": [2, 3], "labels": [-100, 3]}])
    trainer = kind(model, args=args, train_dataset=rows, processing_class=tokenizer)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def trained(trainer: Any, batch: dict[str, Tensor]) -> Callable[[], Tensor]:
    """The trainer's loss of a batch, as its training step takes it."""
    answers = (batch["labels"][:, 1:] != -100).sum()

    def loss() -> Tensor:
        with trainer.compute_loss_context_manager():
            return trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=answers)

    return loss


def full_logits(model: MistralForCausalLM, batch: dict[str, Tensor], **inputs: Tensor) -> Tensor:
    """Log-probabilities of the targets by way of all logits."""
    with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
        logits = model(attention_mask=batch["attention_mask"], **inputs).logits[:, :-1].float()
    return logits.log_softmax(-1).gather(-1, batch["labels"][:, 1:, None].clamp(min=0))[..., 0]


def full_two_pass(model: MistralForCausalLM, batch: dict[str, Tensor]) -> Tensor:
    """The released code's recipe: both passes with all logits, the input embedding read without gradient."""
    mask = batch["labels"][:, 1:] != -100
    with torch.no_grad():
        with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
            predicted = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1)
        embed = model.get_input_embeddings()
        states, predicted_states = embed(batch["input_ids"]), embed(predicted[:, :-1])
        states[:, 1:] = torch.where(mask[..., None], 0.8 * states[:, 1:] + 0.2 * predicted_states, states[:, 1:])
    return ift.ift_loss(full_logits(model, batch, inputs_embeds=states), mask, 0.95).mean()


def make_loss(variant: str, model: Any, batch: dict[str, Tensor]) -> Callable[[], Tensor]:
    """The loss of a batch, as a variant's training step takes it."""
    if variant == "ift":
        return trained(make_trainer(IFTTrainer, IFTConfig, model), batch)
    if variant == "own sft":  # the same head and loss, one pass
        return trained(make_trainer(IFTTrainer, IFTConfig, model, lam=0.0, gamma=0.0), batch)
    if variant == "lagged":
        trainer = make_trainer(IFTTrainer, IFTConfig, model, prediction="lagged")
        trainer._example_ids = torch.arange(len(batch["labels"]), device=DEVICE)
        loss = trained(trainer, batch)
        loss()  # the first epoch, which runs pass 1
        return loss
    if variant.startswith("trl sft"):
        if variant == "trl sft, compiled":
            model.compile()
        trainer = make_trainer(SFTTrainer, SFTConfig, model, use_liger_kernel=variant == "trl sft, Liger")
        return trained(trainer, batch)
    model.to(DEVICE).train()
    mask = batch["labels"][:, 1:] != -100
    full = {
        "full sft": lambda: ift.sft_loss(full_logits(model, batch, input_ids=batch["input_ids"]), mask).mean(),
        "full two-pass": lambda: full_two_pass(model, batch),
    }
    return full[variant]


def make_step(
    variant: str, sequences: int = 4, length: int = 256, vocabulary: int = 32_000, model: Any = None
) -> Callable[[], None]:
    """One training step of a variant with an AdamW of its own, and a model of its own if none is given."""
    model = make_model(vocabulary, length) if model is None else model
    loss = make_loss(variant, model, make_batch(sequences, length, vocabulary))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    step()
    return step


def step_time(quick: bool) -> list[Row]:
    """Seconds of a step."""
    steps = [make_step(variant) for variant in VARIANTS]
    best = dict(zip(VARIANTS, seconds(*steps, rounds=8), strict=True))  # fewer would say something else
    targets = {
        "IFT beside its own SFT": ("ift", "own sft", 1.33),
        "IFT beside TRL's SFT": ("ift", "trl sft", 1.05),
        "IFT beside full-logit two passes": ("ift", "full two-pass", 0.75),
        "IFT, lagged, beside its own SFT": ("lagged", "own sft", 1.03),
        "own SFT beside full-logit SFT": ("own sft", "full sft", 1.0),
    }
    return [
        Row(name, f"{best[ours]:.2f} s", f"{peer} {best[peer]:.2f} s", best[ours] / best[peer], target, at_most=True)
        for name, (ours, peer, target) in targets.items()
    ]


def compiled(quick: bool) -> Iterator[Row]:
    """IFT beside TRL's SFT by torch.compile, where there is a compiler; not in the quick form, as it takes minutes."""
    if quick or (DEVICE == "cpu" and not any(map(shutil.which, ("g++", "clang++", "cl")))):
        return
    ours, peer = seconds(make_step("ift"), make_step("trl sft, compiled"), rounds=8)
    yield Row(
        "IFT beside TRL's SFT, compiled", f"{ours:.2f} s", f"compiled {peer:.2f} s", ours / peer, 1.05, at_most=True
    )


def memory(quick: bool) -> list[Row]:
    """Peak memory of two steps, each variant in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peak = {name: pool.apply(peak_of, (name,)) for name in ("ift", "trl sft")}
    row = (f"{peak['ift']:.2f} GB", f"TRL's SFT {peak['trl sft']:.2f} GB")
    return [Row("IFT, peak memory", *row, peak["ift"] / peak["trl sft"], 1.0, at_most=True)]


def peak_of(variant: str) -> float:
    """Peak gigabytes of the device, or of this process, after two steps."""
    quiet()
    make_step(variant)()
    return torch.cuda.max_memory_allocated() / 1e9 if DEVICE == "cuda" else peak_gigabytes()


def growth(quick: bool) -> Iterator[Row]:
    """IFT beside its own SFT and TRL's, as sequences and vocabularies grow."""
    sizes = [(4, 256, 64_000)] if quick else [(1, 1024, 32_000), (1, 4096, 32_000), (4, 256, 64_000), (4, 256, 128_000)]
    for sequences, length, vocabulary in sizes:
        steps = [make_step(variant, sequences, length, vocabulary) for variant in ("ift", "own sft", "trl sft")]
        ift_step, own, trl = seconds(*steps, rounds=4)
        name = f"IFT, {sequences} × {length:,} tokens, vocabulary {vocabulary // 1000}k"
        yield Row(f"{name}, own SFT", f"{ift_step:.2f} s", f"own SFT {own:.2f} s", ift_step / own, 1.33, at_most=True)
        yield Row(f"{name}, TRL", f"{ift_step:.2f} s", f"TRL's SFT {trl:.2f} s", ift_step / trl, 1.05, at_most=True)


def quiet() -> None:
    """No warnings and progress bars of the libraries."""
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()


def bench_lm() -> None:
    """The command."""
    options = tyro.cli(Options, prog="python -m bench.lm", description=__doc__)
    quiet()
    run((step_time, compiled, memory, growth), options)


if __name__ == "__main__":
    main(bench_lm)
