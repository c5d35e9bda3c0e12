"""What a run will need, from the architecture alone: parameters, tokens, memory per device, FLOPs and time."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from ift import METHODS
from ift.heads import CHUNK
from lm.train.settings import TrainSettings
from lm.trainers.beside import SHARE

# Bytes of optimiser state per trained parameter: two moments, one, none, or two of a byte each.
_OPTIMIZER_BYTES = {"adamw": 8.0, "adam": 8.0, "rmsprop": 4.0, "adafactor": 0.1, "sgd": 0.0}
# On a GPU PyTorch's update takes the root of all second moments at once; measured with bench/scaling.py.
_SCRATCH_BYTES = {"adamw_torch": 4.0, "rmsprop": 4.0}
A100_FLOPS, UTILISATION = 312e12, 0.4


@dataclass(frozen=True)
class Estimate:
    """Sizes in parameters, tokens, bytes per device, floating-point operations and updates.

    `sharded` counts weights, gradients and optimiser state split over the devices (FSDP, ZeRO-3), `replicated` all
    of them on each, and the gradients once more in the buckets that devices exchange (DDP). The update's scratch counts
    where it takes more than the activations, which are gone by then.
    """

    parameters: int
    trained: int
    tokens_per_update: int
    updates: int
    flops_per_token: float
    state_bytes: float
    bucket_bytes: float
    scratch_bytes: float
    activation_bytes: float
    devices: int

    @property
    def replicated(self) -> float:
        return self.state_bytes + self.bucket_bytes + max(self.activation_bytes, self.scratch_bytes)

    @property
    def sharded(self) -> float:
        return self.state_bytes / self.devices + max(self.activation_bytes, self.scratch_bytes / self.devices)

    @property
    def a100_hours(self) -> float:
        """Hours on A100s at 40 % of their peak in bfloat16, all tokens at their longest."""
        flops = self.flops_per_token * self.tokens_per_update * self.updates
        return flops / (self.devices * A100_FLOPS * UTILISATION) / 3600


def without_weights(config: Any, trust_remote_code: bool) -> Any:
    """The model of an architecture, with shapes only."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def estimate(settings: TrainSettings, model: Any, rows: int, bytes_per_weight: int) -> Estimate:
    """Estimate a run over `rows` examples, every sequence at its longest; `model` may be without weights."""
    config = model.config.get_text_config()
    parameters = sum(weight.numel() for weight in model.parameters())
    head = model.get_output_embeddings()
    linear = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear | Conv1D) and m is not head}
    inner = sum(module.weight.numel() for module in linear.values())
    matrices = inner + head.weight.numel()
    adapted = [module for name, module in linear.items() if _is_adapted(settings, name)]
    pairs = settings.learns_from_pairs
    per_update = settings.batch_size * settings.max_length * (2 if pairs else 1)
    updates = settings.max_steps
    if updates <= 0:
        updates = math.ceil(math.ceil(rows / settings.batch_size) * settings.num_train_epochs)
    passes = _passes(settings, epochs=updates * settings.batch_size / rows)
    products = passes * matrices + _recomputed(settings, linear.values(), adapted)
    trained = parameters
    if settings.lora_r:
        trained = sum(settings.lora_r * sum(module.weight.shape) for module in adapted)
        if isinstance(model, PeftModel):  # an adapter that is trained further
            trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        products += (passes + 1 + settings.gradient_checkpointing) * trained  # one more than for frozen weights
    return Estimate(
        parameters=parameters,
        trained=trained,
        tokens_per_update=per_update,
        updates=updates,
        flops_per_token=2 * products,
        state_bytes=_state_bytes(settings, parameters, inner, trained, bytes_per_weight),
        bucket_bytes=4.0 * trained if settings.devices > 1 else 0.0,
        scratch_bytes=trained * _SCRATCH_BYTES.get(settings.optim, 0.0),
        activation_bytes=_activation_bytes(settings, config, bytes_per_weight),
        devices=settings.devices,
    )


def accumulation(settings: TrainSettings, devices: int, paired: bool = True) -> int:
    """Micro-batches of an update on each device; raises `ValueError` where they do not come out even.

    `paired` is whether the rows of a method that learns from pairs are pairs, and not answers with labels.
    """
    at_a_time = settings.per_device_train_batch_size * devices
    if settings.batch_size % at_a_time:
        raise ValueError(
            f"batch_size must be a multiple of per_device_train_batch_size × devices = {at_a_time}, "
            f"got {settings.batch_size}"
        )
    # Unpaired methods take the two answers of a pair apart.
    return settings.batch_size * (2 if METHODS[settings.method].unpaired and paired else 1) // at_a_time


def _passes(settings: TrainSettings, epochs: float) -> float:
    """Forward passes that a token's training costs; going backward costs two, or one where weights are frozen."""
    passes = 1.0 + (1 if settings.lora_r else 2)
    if METHODS[settings.method].mixes_states and settings.numbers["lam"] > 0:
        first = 1 if settings.first_predictions == "fresh" else 0
        passes += first / max(epochs, 1) if settings.prediction == "lagged" else 1
    passes += 1 if METHODS[settings.method].needs_reference else 0
    if "beside" in METHODS[settings.method].reads:  # longer rows, and what the reference is asked once
        passes = passes * (1 + SHARE) + 1 / max(epochs, 1)
    return passes


def _is_adapted(settings: TrainSettings, name: str) -> bool:
    """Whether LoRA adapts the linear layer of that name; as PEFT has it, by the last parts of its name."""
    if not settings.lora_r or settings.lora_target_modules == "all-linear":
        return bool(settings.lora_r)
    targets = settings.lora_target_modules.replace(" ", "").split(",")
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _recomputed(settings: TrainSettings, linear: Collection[Any], adapted: list[Any]) -> int:
    """Weights of the linear layers that gradient checkpointing goes through again: all but the last of each block.

    PyTorch stops where nothing that the backward pass needs is left to make: before the projection down to the model's
    width, or behind it, where it has an adapter.
    """
    if not settings.gradient_checkpointing:
        return 0
    widest = max(max(module.weight.shape) for module in linear)  # the MLP's inner width
    ways_down = [m for m in linear if m.weight.shape[0 if isinstance(m, Conv1D) else 1] == widest and m not in adapted]
    return sum(m.weight.numel() for m in linear) - sum(m.weight.numel() for m in ways_down)


def _state_bytes(settings: TrainSettings, parameters: int, inner: int, trained: int, bytes_per_weight: int) -> float:
    """`inner` are the weights of linear layers but the head: those that may be of 4 bits (0.56 B with their scales)."""
    optimizer = next((size for name, size in _OPTIMIZER_BYTES.items() if settings.optim.startswith(name)), 8.0)
    optimizer = 2.0 if "8bit" in settings.optim else optimizer
    weights: float = parameters * bytes_per_weight
    if settings.load_in_4bit:
        weights = 0.56 * inner + bytes_per_weight * (parameters - inner)
    reference = weights if METHODS[settings.method].needs_reference and not settings.lora_r else 0
    return weights + reference + trained * (4 + optimizer) + (4 * trained if settings.lora_r else 0)


def _activation_bytes(settings: TrainSettings, config: Any, bytes_per_weight: int) -> float:
    tokens = settings.per_device_train_batch_size * settings.max_length * (2 if settings.learns_from_pairs else 1)
    width, layers = config.hidden_size, config.num_hidden_layers
    inner = getattr(config, "intermediate_size", None) or 4 * width
    layer = 8 * width + 4 * inner  # norms, projections, attention without its matrix, gated MLP
    kept = layers * width + layer if settings.gradient_checkpointing else layers * layer
    each = 2 if torch.cuda.is_available() or settings.dtype == "bfloat16" else bytes_per_weight
    logits = 3 * min(tokens, CHUNK) * config.vocab_size * 4
    return tokens * kept * each + logits
