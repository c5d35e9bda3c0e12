"""The prompt of a batch, which both passes of IFT read alike, goes through the backbone once where that is exact.

Before its first answer token no state is mixed. So what attention keeps of that part (its keys and values) serves pass
1 without gradient and pass 2 with it: pass 1 costs the answers only.
"""

import copy
import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

# Where it pays. On a GPU each further call costs the starting of its kernels; `python -m bench.gpu` measures both ways.
SHARED_ON: tuple[str, ...] = ("cpu",)
LEAST_WORK = 1e9  # multiplications that it has to save: the calls themselves cost a few milliseconds


def shared_prompt(model: Any, answer: Tensor, options: dict[str, Any]) -> int:
    """Tokens before the first prediction of `answer [batch, tokens − 1]`, if both passes can share them; else 0.

    They can where both would compute the same (no dropout, no noise), where attention looks back as far as it likes,
    and where one process trains: engines that shard the model want each block called once with gradient.
    """
    if answer.device.type not in SHARED_ON or torch.compiler.is_compiling() or not _exact(model, answer, options):
        return 0
    first = answer.any(0).float().argmax().item()  # 0 also if there is no answer at all
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 2) - model.get_input_embeddings().weight.numel()
    return int(first) if first * len(answer) * weights >= LEAST_WORK else 0


def _exact(model: Any, answer: Tensor, options: dict[str, Any]) -> bool:
    config, embed = model.config.get_text_config(), model.get_input_embeddings()
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    if several and torch.distributed.get_world_size() > 1:
        return False
    if set(options) - {"attention_mask", "use_cache"} or embed._forward_hooks:  # position ids; NEFTune's noise
        return False
    attends = {"full_attention", "sliding_attention"}.issuperset(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if not attends or (window is not None and answer.shape[1] >= window) or config.is_encoder_decoder:
        return False
    if config._attn_implementation not in ("sdpa", "eager"):
        return False
    if "past_key_values" not in inspect.signature(model.base_model.forward).parameters:
        return False
    if any("drop" in name and isinstance(value, float) and value > 0 for name, value in vars(config).items()):
        return False
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):  # it keeps no cache
            return False
        if isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            return False
    return True


def run_prompt(model: Any, states: Tensor, attention_mask: Tensor | None) -> DynamicCache:
    """What attention keeps of the prompt's `states [batch, shared, features]`, with gradient."""
    cache = DynamicCache()
    mask = None if attention_mask is None else attention_mask[:, : states.shape[1]]
    model.base_model(inputs_embeds=states, attention_mask=mask, past_key_values=cache, use_cache=True)
    return cache


def run_answers(model: Any, states: Tensor, attention_mask: Tensor | None, prompt: DynamicCache) -> Tensor:
    """Hidden states of what follows the prompt, `[batch, tokens − shared, features]`; `prompt` stays as it is."""
    cache = copy.copy(prompt)
    cache.layers = [copy.copy(layer) for layer in prompt.layers]  # each grows by a new tensor, not in place
    more = {"attention_mask": attention_mask, "past_key_values": cache, "use_cache": True}
    hidden: Tensor = model.base_model(inputs_embeds=states, **more).last_hidden_state
    return hidden
