"""What a method is: one value that says all of it. Commands, helps, tables, pictures, audits and tests are made of it.

A method of your own is such a value in a file of yours (`ift.own`); nothing else has to know of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

LearnsFrom = Literal["targets", "pairs", "rollouts", "optimum"]
Reads = Literal["policy", "reference", "reference_policy", "beside"]
States = Literal["target", "mixed", "replaced", "noisy", "own"]


@dataclass(frozen=True)
class Number:
    """A number of a method: its range, and what it is if nobody says otherwise.

    Attributes:
        name: as its option on the command lines and as the argument of the loss.
        help: a sentence for `--help`.
        lake, text: the default on Frozen Lake and on language models.
        low, high: the range; `above_low` leaves out its lower end.
        whole: whether it is a whole number.
    """

    name: str
    help: str
    lake: float
    text: float
    low: float = 0.0
    high: float = float("inf")
    above_low: bool = False
    whole: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value is finite and in the range."""
        above = value > self.low if self.above_low else value >= self.low
        return above and value <= self.high and abs(value) < float("inf") and (not self.whole or value == int(value))

    @property
    def sentence(self) -> str:
        """Its help with a capital, unless that begins with a symbol such as λ or k."""
        first = self.help.partition(" ")[0].strip(",")
        return self.help[:1].upper() + self.help[1:] if len(first) > 1 else self.help

    @property
    def allowed(self) -> str:
        """The range in words, for messages."""
        if self.high < float("inf"):
            kind = "a whole number " if self.whole else ""
            return f"{kind}in {'(' if self.above_low else '['}{self.low:g}, {self.high:g}]"
        if self.low == -float("inf"):
            return "a finite number"
        kind = "a whole number" if self.whole else "a finite number"
        return f"{kind} {'above' if self.above_low else 'of at least'} {self.low:g}"


@dataclass(frozen=True)
class Method:
    """A fine-tuning method.

    Attributes:
        name: on command lines, in tables and in files.
        title: its name in full, with where it comes from.
        help: what its loss does, in a sentence.
        learns_from: `targets` (answers to imitate), `pairs` (a target and a worse answer each), `rollouts` (the
            policy's own trajectories with rewards) or `optimum` (the optimal policy, which only a lake has).
        loss: one value per sequence, pair or answer. By `learns_from` it is called with
            targets: `(log_probs, mask)` `[..., tokens]`, and by name with what it `reads`;
            pairs: `(chosen, rejected)` `[...]`, and `(…, ref_chosen, ref_rejected)` with `needs_reference`;
            pairs that are `unpaired`: `(log_probs, ref_log_probs, desirable, kl)`;
            rollouts: `(log_probs, old_log_probs, advantages, mask)`;
            optimum: `(policy, optimum, mask)`, log π(· | s) and π*(· | s) `[..., tokens, actions]`;
            and with those of `numbers` that its signature names.
        numbers: its own numbers.
        colour: in every picture, as `#rrggbb`.
        needs_reference: whether the loss compares with a reference, the frozen start policy. With a number `refresh`,
            the reference is the policy as it was at the last update that is a multiple of it.
        reads: targets: what the loss is given beside log-probabilities and mask:
            `policy`: log π(· | s) of all actions in the target's states, `[..., tokens, actions]`, with gradient;
            `reference`: the reference's log-probability of each target token, `[..., tokens]`;
            `reference_policy`: the reference's log π₀(· | s), `[..., tokens, actions]`.
            `beside`: the states beside the target that the reference's own moves lead to, as three arguments:
            `beside` and `reference_beside`, log π and log π₀ there, `[..., states, actions]`, and `visits`, the share
            of each, `[..., states]` (lake only).
            A loss that reads a policy, and not `beside`, gives one value per *token*, `[..., tokens]`, whose mean over
            the mask is taken for it: so a language model computes it piece by piece and never holds all of `policy`.
        states: in which states it is trained: the `target`'s own; `mixed` with the model's predictions (IFT's
            residual, by its number `lam`); with whole tokens `replaced` by predictions, with probability `lam`;
            `noisy` (uniform noise, by its number `noise`); or its `own`, those of its episodes.
        propagates: whether the loss takes `form`, `source`, `norm` and `side` of IFT's propagation.
        answer: pairs: whether an answer's log-probability is the `sum` or the `mean` over its tokens.
        unpaired: pairs: whether the loss takes one answer at a time, with whether it is desirable.
        alone: pairs: the loss of a target whose negative equals it, from `chosen`; None leaves such a pair out.
    """

    name: str
    title: str
    help: str
    learns_from: LearnsFrom
    loss: Callable[..., Tensor]
    numbers: tuple[Number, ...] = ()
    colour: str = "#4d4d4d"
    needs_reference: bool = False
    reads: tuple[Reads, ...] = ()
    states: States = "target"
    propagates: bool = False
    answer: Literal["sum", "mean"] = "sum"
    unpaired: bool = False
    alone: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if {"reference", "reference_policy", "beside"} & set(self.reads):
            object.__setattr__(self, "needs_reference", True)
        if self.learns_from == "rollouts":
            object.__setattr__(self, "states", "own")

    @property
    def mixes_states(self) -> bool:
        """Whether the states of its targets have parts of the model's own predictions."""
        return self.states in ("mixed", "replaced")

    @property
    def per_token(self) -> bool:
        """Whether its loss gives one value per token, because it reads a policy in the target's states alone."""
        return "beside" not in self.reads and ("policy" in self.reads or "reference_policy" in self.reads)

    @property
    def read_arguments(self) -> tuple[str, ...]:
        """The names by which its loss takes what it reads."""
        beside = ("beside", "reference_beside", "visits")
        return tuple(name for read in self.reads for name in (beside if read == "beside" else (read,)))

    def number(self, name: str) -> Number:
        """Its number of that name; raises `KeyError` if it has none."""
        return {number.name: number for number in self.numbers}[name]

    @cached_property  # a training asks at each update
    def loss_numbers(self) -> tuple[str, ...]:
        """Names of the numbers that the loss takes; others, such as IFT's λ, act on the states before it."""
        takes = inspect.signature(self.loss).parameters
        return tuple(number.name for number in self.numbers if number.name in takes)
