"""Standing still beside the target as a drop-in for TRL's supervised trainer: `StillConfig` and `StillTrainer`."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from trl import SFTConfig, SFTTrainer

import ift
from ift.heads import CHUNK, ReferenceHead
from ift.still import STILL
from lm.trainers.beside import Beside, states_beside, with_states
from lm.trainers.examples import EXAMPLE_ID
from lm.trainers.forward import Residual, ResidualOutput, add_residual_forward
from lm.trainers.reference import KeepsReference
from lm.trainers.sequences import AveragesSequences

_ATTENTIONS = ("eager", "sdpa")  # those that take a mask of any shape


@dataclass
class StillConfig(SFTConfig):
    """TRL's `SFTConfig` with the numbers of standing still beside the target (`docs/a-better-one.md`)."""

    hold: float = field(default=STILL.number("hold").text, metadata={"help": STILL.number("hold").help})
    ties: float = field(default=STILL.number("ties").text, metadata={"help": STILL.number("ties").help})
    sharpest: float = field(default=STILL.number("sharpest").text, metadata={"help": STILL.number("sharpest").help})

    def __post_init__(self) -> None:
        for number in STILL.numbers:
            if not number.holds(getattr(self, number.name)):
                raise ValueError(f"{number.name} must be {number.allowed}, got {getattr(self, number.name)}")
        if self.packing or self.padding_free:
            raise ValueError("packing and padding_free must be off with still: it needs one example per row")
        super().__post_init__()


class StillTrainer(KeepsReference, AveragesSequences, SFTTrainer):
    """TRL's `SFTTrainer` that stands still beside the target: takes the same arguments, with a `StillConfig`.

    The start policy is the reference (`KeepsReference`). Of an example it is asked once what it would say in the
    target's states; then each update has one pass of it and one of the model, over the target and the states beside it.
    How sharp the start policy is, and how far it is trusted with ties, is found once, from the first 1,024 answer
    tokens of the data.

    Logged beside SFTTrainer's own metrics: `sft_loss`, `drift` (KL beside the target, nats), `sharpness`, `trust`.
    """

    args: StillConfig
    model: Any
    _tag_names = ["trl", "still"]  # noqa: RUF012  # as its base class declares it
    _name = "Still"

    def __init__(self, model: Any, args: StillConfig | None = None, ref_model: Any = None, **kwargs: Any):
        args = args if args is not None else StillConfig()
        if not isinstance(args, StillConfig):
            raise ValueError(f"args must be a StillConfig, got a {type(args).__name__}")
        if args.loss_type != "nll":
            raise ValueError(f"loss_type must be nll with still, got {args.loss_type!r}")
        super().__init__(model, args=args, **kwargs)
        self.refuse_load_balancing("still")
        attention = self.model.config._attn_implementation
        if attention not in _ATTENTIONS:
            raise ValueError(f"attention must be one of {', '.join(_ATTENTIONS)} with still, got {attention!r}")
        self.keep_reference(ref_model, continued=isinstance(model, PeftModel))
        add_residual_forward(self.model)
        self._fitted: tuple[float, float] | None = None
        self._known: dict[int, tuple[Tensor, ...]] = {}  # by example: tokens, places, visits

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The method's loss in training, SFT's in evaluation."""
        if not self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        sharpness, trust = self._fitted = self._fitted or self._fit(model)
        beside = self._beside(model, inputs)
        dtype = self.accelerator.unwrap_model(model).get_input_embeddings().weight.dtype
        longer, tokens = with_states(inputs, beside, dtype), inputs["labels"].shape[1]
        held = torch.zeros_like(longer["labels"][:, 1:], dtype=torch.bool)
        held[:, tokens:] = True

        def token_loss(log_probs: Tensor, wanted: Tensor, policy: Tensor, start: Any, beside: Any) -> Tensor:
            reference = start.gather(-1, wanted[:, None])[:, 0]
            return ift.still_token_loss(log_probs, policy, reference, start, beside, sharpness, trust, self.args.ties)

        reference = self.ask_reference(model, longer).reference
        outputs: ResidualOutput = model(
            **longer, residual=Residual(0.0, token_loss=token_loss, reference=reference, marks=held)
        )
        drift = (outputs.token_losses[:, tokens:] * beside.visits).sum(-1, keepdim=True)
        on_target = ResidualOutput(**{name: part[:, : tokens - 1] for name, part in outputs.items()})
        losses = on_target.token_losses + self.args.hold * drift
        loss = self.mean_loss(
            lambda log_probs, mask, losses: ift.masked_mean(losses, mask),
            on_target, inputs, num_items_in_batch, losses=losses,
        )  # fmt: skip
        self._log_still(on_target, inputs, drift)
        return (loss, on_target) if return_outputs else loss

    def _beside(self, model: Any, inputs: Any) -> Beside:
        """The states beside the target of a batch; examples that were asked about before are not asked again."""
        ids = None if self._example_ids is None else self._example_ids.tolist()
        labels = inputs["labels"]
        known = ids is not None and all(i in self._known for i in ids)
        # Wrappers need the same calls on every rank: one that has to ask makes the others ask too.
        unknown = self.accelerator.reduce(torch.tensor(int(not known), device=labels.device)).item()
        if not unknown and ids is not None:
            columns = zip(*(self._known[i] for i in ids), strict=True)
            parts = (torch.nn.utils.rnn.pad_sequence(list(column), batch_first=True) for column in columns)
            return Beside(*(part.to(labels.device) for part in parts))
        reference: ReferenceHead = self.ask_reference(model, inputs).reference
        beside = states_beside(reference, labels, self._ends())
        if ids is not None:
            rows = zip(*(part.cpu() for part in (beside.tokens, beside.places, beside.visits)), strict=True)
            self._known.update(zip(ids, rows, strict=True))
        return beside

    def _ends(self) -> list[int]:
        """Tokens that end an answer."""
        named = self.model.config.get_text_config().eos_token_id
        ends = [] if named is None else [named] if isinstance(named, int) else list(named)
        own = getattr(self.processing_class, "eos_token_id", None)
        return sorted({*ends, *([] if own is None else [own])})

    def _fit(self, model: Any) -> tuple[float, float]:
        """Sharpness and trust, of the first `CHUNK` answer tokens; every process finds the same."""
        heads, wanted = [], []
        for batch in self._first_batches():
            head = self.ask_reference(model, batch).reference
            labels = batch["labels"][:, 1:]
            heads.append(head)
            wanted.append(labels[labels != -100].to(head.hidden.device))
            if sum(map(len, wanted)) >= CHUNK:
                break
        head = replace(heads[0], hidden=torch.cat([head.hidden for head in heads])[:CHUNK])
        policy = head.log_policy(0, CHUNK)
        said = policy.gather(-1, torch.cat(wanted)[:CHUNK, None])[:, 0]
        return ift.still_fit(said, policy, self.args.sharpest)

    def _first_batches(self) -> Iterator[dict[str, Any]]:
        rows = iter(self.train_dataset)
        while batch := list(islice(rows, self.args.per_device_train_batch_size)):
            inputs = self._prepare_inputs(self.data_collator([dict(row) for row in batch]))
            inputs.pop(EXAMPLE_ID, None)
            yield inputs

    def _log_still(self, outputs: ResidualOutput, inputs: Any, drift: Tensor) -> None:
        self.log_plain(outputs, inputs, drift=drift.detach() * outputs.label_mask)
        sharpness, trust = self._fitted or (1.0, 0.0)
        self._metrics["train"]["sharpness"].append(sharpness)
        self._metrics["train"]["trust"].append(trust)
