"""A trial of a method's loss on small made-up numbers, before anything is trained with it.

What it finds is what would otherwise come out as a wrong curve: values of the wrong shape, no gradient, NaN, tokens
that the mask leaves out and that count all the same, sequences that change each other's loss, and arguments that the
value does not declare.
"""

import inspect
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor

from ift.fields import check_fields, reason
from ift.method import Method, Reads

_LEADING, _TOKENS, _ACTIONS = (2, 3), 4, 5
# What acts on the states or on the reference, and never reaches the loss.
_OUTSIDE_THE_LOSS = {"lam": ("mixed", "replaced"), "noise": ("noisy",)}
_STATES = {
    "targets": ("target", "mixed", "replaced", "noisy"),
    "pairs": ("target",),
    "rollouts": ("own",),
    "optimum": ("target", "own"),
}
_GIVEN = {
    "targets": ("log_probs", "mask"),
    "pairs": ("chosen", "rejected"),
    "rollouts": ("log_probs", "old_log_probs", "advantages", "mask"),
    "optimum": ("policy", "optimum", "mask"),
}
_PROPAGATION = ("form", "source", "norm", "side")


def try_method(method: Method) -> None:
    """Raise `ValueError`, naming the method and what is wrong, unless its loss does what its value says."""
    check_fields(method.name, method)
    _check_value(method)
    _check_arguments(method)
    for dtype in (torch.float64, torch.float32):
        arguments = _made_up(method, dtype)
        values = _called(method, arguments)
        _check_values(method, values, arguments)
    _check_independence(method)


def _refuse(method: Method, why: str) -> ValueError:
    return ValueError(f"method {method.name!r}: {why}")


def _check_value(method: Method) -> None:
    if method.learns_from != "targets" and (method.reads or method.propagates or method.mixes_states):
        raise _refuse(method, "reads, propagates and states of predictions go with learns_from 'targets' alone")
    if method.states not in _STATES[method.learns_from]:
        allowed = " or ".join(_STATES[method.learns_from])
        raise _refuse(method, f"its states must be {allowed} as it learns from {method.learns_from}")
    for read in method.reads:
        if read not in get_args(Reads):
            raise _refuse(method, f"reads names {read!r}: there are {', '.join(get_args(Reads))}")
    own = [number.name for number in method.numbers]
    for name, states in _OUTSIDE_THE_LOSS.items():
        if method.states in states and name not in own:
            raise _refuse(method, f"its states are {method.states}, which needs a number {name!r}")
    if "refresh" in own and not method.needs_reference:
        raise _refuse(method, "its number 'refresh' refreshes a reference, which it does not read")
    for number in method.numbers:
        for default in (number.lake, number.text):
            if not number.holds(default):
                raise _refuse(method, f"the default of {number.name} must be {number.allowed}, got {default}")


def _given(method: Method) -> tuple[str, ...]:
    """The arguments by position."""
    if method.unpaired:
        return ("log_probs", "ref_log_probs", "desirable", "kl")
    reference = ("ref_chosen", "ref_rejected") if method.learns_from == "pairs" and method.needs_reference else ()
    return (*_GIVEN[method.learns_from], *reference)


def _check_arguments(method: Method) -> None:
    """The loss takes what its value declares, and nothing else."""
    takes = inspect.signature(method.loss).parameters
    given, own = _given(method), [number.name for number in method.numbers]
    declared = {*method.read_arguments, *own, *(_PROPAGATION if method.propagates else ())}
    positional = [
        name for name, each in takes.items() if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    if len(positional) < len(given) and not any(each.kind == each.VAR_POSITIONAL for each in takes.values()):
        raise _refuse(method, f"its loss must take ({', '.join(given)}) first; it takes ({', '.join(takes)})")
    for name, each in list(takes.items())[len(given) :]:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) or name in declared:
            continue
        if name in get_args(Reads):
            raise _refuse(method, f"its loss takes {name!r}, which its value does not declare: add it to reads")
        if each.default is each.empty:
            raise _refuse(
                method,
                f"its loss takes {name!r}, which its value does not declare: it is none of its numbers, and a method "
                f"that learns from {method.learns_from} is given ({', '.join(given)}) alone, and what it reads",
            )
    for name in (*method.read_arguments, *own):
        acts_outside = name == "refresh" or method.states in _OUTSIDE_THE_LOSS.get(name, ())
        if name not in takes and not acts_outside:
            raise _refuse(method, f"its value declares {name!r}, which its loss does not take")


def _made_up(method: Method, dtype: torch.dtype) -> dict[str, Any]:
    """Arguments by name; log-probabilities have a gradient. The last sequence of each group has no token at all."""
    generator = torch.Generator().manual_seed(0)

    def log_policy() -> Tensor:
        logits = torch.randn(*_LEADING, _TOKENS, _ACTIONS, generator=generator, dtype=torch.float64)
        return logits.to(dtype).log_softmax(-1)

    mask = torch.ones(*_LEADING, _TOKENS, dtype=torch.bool)
    mask[:, 1, 2:] = False
    mask[:, 2] = False
    policy = log_policy().requires_grad_()
    reference_policy, old = log_policy(), log_policy()
    chosen = torch.randint(_ACTIONS, (*_LEADING, _TOKENS, 1), generator=generator)
    tokens = {"log_probs": policy, "reference": reference_policy, "old_log_probs": old}
    arguments: dict[str, Any] = {name: table.gather(-1, chosen)[..., 0] for name, table in tokens.items()}
    arguments |= {"mask": mask, "policy": policy, "reference_policy": reference_policy}
    arguments |= {"beside": log_policy().requires_grad_(), "reference_beside": log_policy()}
    arguments |= {"visits": torch.full((*_LEADING, _TOKENS), 1 / _TOKENS, dtype=dtype)}
    arguments |= {"optimum": torch.eye(_ACTIONS, dtype=dtype)[chosen[..., 0]], "advantages": old[..., 0] + 1}
    answers = {name: log_policy()[..., 0, 0] for name in ("chosen", "rejected", "ref_chosen", "ref_rejected")}
    arguments |= answers
    if method.learns_from == "pairs":
        arguments |= {name: answers[name].requires_grad_() for name in ("chosen", "rejected")}
    if method.unpaired:
        arguments |= {"log_probs": answers["chosen"], "ref_log_probs": answers["ref_chosen"]}
        arguments |= {"desirable": mask[..., 0], "kl": torch.full(_LEADING, 0.1, dtype=dtype)}
    return arguments


def _called(method: Method, arguments: dict[str, Any]) -> Tensor:
    """What the loss gives for made-up arguments and its numbers as they are by default on a lake."""
    named: dict[str, Any] = {name: arguments[name] for name in method.read_arguments}
    named |= {name: method.number(name).lake for name in method.loss_numbers}
    if method.propagates:
        named |= {"form": "product", "source": "loss", "norm": "L1", "side": "left"}
    return _theirs(method, "loss", lambda: method.loss(*(arguments[name] for name in _given(method)), **named))


def _theirs(method: Method, what: str, call: Callable[[], Any]) -> Any:
    """What someone else's code gives; whatever it raises, but an interrupt, is a reason to refuse it."""
    try:
        return call()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        kind = type(error).__name__
        line = reason(error).removeprefix(kind).removeprefix(": ")
        raise _refuse(method, f"its {what} fails on a small example ({kind}{': ' if line else ''}{line})") from error


def _check_values(method: Method, values: Any, arguments: dict[str, Any]) -> None:
    shape, what = _shape(method)
    if not isinstance(values, Tensor):
        raise _refuse(method, f"its loss gives a {type(values).__name__}, it must give a tensor")
    if tuple(values.shape) != shape:
        raise _refuse(method, f"its loss gives the shape {tuple(values.shape)} where one value per {what} is {shape}")
    counted = _counted(method, values, arguments)
    if not bool(counted.isfinite().all()):
        empty = not bool(values[..., :2].isnan().any()) and method.learns_from != "pairs" and not method.per_token
        hint = "for a sequence without any token: ift.masked_mean gives 0 there" if empty else "on a small example"
        raise _refuse(method, f"its loss is not a finite number {hint}")
    gradients = _gradients(method, counted.sum(), arguments)
    if not any(bool((gradient != 0).any()) for gradient in gradients):
        raise _refuse(method, "its loss has no gradient: nothing would be learned from it")
    if not all(bool(gradient.isfinite().all()) for gradient in gradients):
        raise _refuse(method, "the gradient of its loss is not a finite number on a small example")


def _shape(method: Method) -> tuple[tuple[int, ...], str]:
    if method.per_token:
        return (*_LEADING, _TOKENS), "token (as it reads a policy)"
    return _LEADING, "pair" if method.learns_from == "pairs" else "sequence"


def _counted(method: Method, values: Tensor, arguments: dict[str, Any]) -> Tensor:
    """The values that a training looks at: those of tokens that the mask leaves out it does not."""
    return values.masked_fill(~arguments["mask"], 0) if method.per_token else values


def _learned(method: Method) -> tuple[str, ...]:
    """The arguments that a gradient reaches."""
    if method.learns_from == "pairs":
        return ("log_probs",) if method.unpaired else ("chosen", "rejected")
    return ("policy",)


def _gradients(method: Method, total: Tensor, arguments: dict[str, Any]) -> list[Tensor]:
    if not total.requires_grad:
        return []
    leaves = [arguments[name] for name in _learned(method)]
    gradients = _theirs(
        method, "gradient", lambda: torch.autograd.grad(total, leaves, allow_unused=True, retain_graph=True)
    )
    return [torch.zeros_like(leaf) if each is None else each for leaf, each in zip(leaves, gradients, strict=True)]


def _check_independence(method: Method) -> None:
    """Tokens that the mask leaves out do not count, and no sequence changes another one's loss."""
    arguments = _made_up(method, torch.float64)
    values = _counted(method, _called(method, arguments), arguments)
    if method.learns_from != "pairs":
        gradient = _gradients(method, values.sum(), arguments)[0]
        if bool((gradient[~arguments["mask"]] != 0).any()):
            raise _refuse(method, "its loss depends on tokens that the mask leaves out: take ift.masked_mean")
    for gradient in _gradients(method, values[0, 0].sum(), arguments):
        beside = gradient.clone()
        beside[0, 0] = 0
        if bool((beside != 0).any()):
            raise _refuse(method, "its loss of one sequence depends on the others beside it: average over tokens alone")
