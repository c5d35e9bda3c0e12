"""The policy: a two-layer fully connected network on the one-hot cell, many independent runs as one set of tensors."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from toy import network
from toy.kernels import steps as kernel

OPTIMIZERS: dict[str, tuple[int, Callable[..., torch.optim.Optimizer]]] = {  # of the kernels, and PyTorch's
    "adam": (kernel.ADAM, lambda parameters, lr: torch.optim.Adam(parameters, lr, fused=True)),
    "rmsprop": (kernel.RMSPROP, lambda parameters, lr: torch.optim.RMSprop(parameters, lr, foreach=True)),
    "sgd": (kernel.SGD, lambda parameters, lr: torch.optim.SGD(parameters, lr, fused=True)),
}


class Policy(NamedTuple):
    """Parameters of `runs` independent networks: softmax(relu(x W₁ + b₁) W₂ + b₂), x the state `[cells]`."""

    first_weight: Tensor  # [runs, cells, width]
    first_bias: Tensor  # [runs, 1, width]
    second_weight: Tensor  # [runs, width, 4]
    second_bias: Tensor  # [runs, 1, 4]


def init_policy(cells: int, width: int, seeds: Sequence[int], dtype: torch.dtype, device: torch.device) -> Policy:
    """One network per seed, each entry uniform in ±1/√fan_in (torch.nn.Linear's bounds); a seed fixes its network."""
    shapes = ((cells, width), (1, width), (width, 4), (1, 4))
    bounds = (cells**-0.5, cells**-0.5, width**-0.5, width**-0.5)
    generators = [np.random.default_rng([seed, 0]) for seed in seeds]
    draws = [
        np.stack([generator.uniform(-bound, bound, shape) for generator in generators])
        for shape, bound in zip(shapes, bounds, strict=True)
    ]
    return Policy(*(torch.as_tensor(draw, dtype=dtype, device=device) for draw in draws))


def state_log_probs(policy: Policy, states: Tensor) -> Tensor:
    """log π(a | x) of states given as vectors over cells, `[runs, ..., cells]` to `[runs, ..., 4]`."""
    flat = states.flatten(1, -2)
    log_probs = network.LogProbs.apply(flat, *policy) if network.computes(policy) else by_products(policy, flat)
    return log_probs.view(*states.shape[:-1], 4)


def cell_log_probs(policy: Policy, cells: Tensor | None = None) -> Tensor:
    """log π(a | s) of every cell, or of the given ones, `[runs, cells, 4]`: `state_log_probs` of one-hot states."""
    if cells is None:
        cells = torch.arange(policy.first_weight.shape[1], device=policy.first_weight.device)
    if network.computes(policy):
        return network.LogProbs.apply(cells, *policy)
    return by_products(policy, policy.first_weight.index_select(1, cells), chosen=True)


def by_products(policy: Policy, states: Tensor, chosen: bool = False) -> Tensor:
    """The same in matrix products, the kernels' definition; with `chosen`, `states` are the rows of W₁ themselves."""
    hidden = states + policy.first_bias if chosen else torch.baddbmm(policy.first_bias, states, policy.first_weight)
    return torch.log_softmax(torch.baddbmm(policy.second_bias, torch.relu(hidden), policy.second_weight), -1)


def parameter_mse(policy: Policy, other: Policy) -> Tensor:
    """Mean squared difference over all parameters of a run, `[runs]`."""
    return travelled(policy, other).square() / sum(p[0].numel() for p in policy)


def travelled(policy: Policy, start: Policy) -> Tensor:
    """Length of the difference over all parameters of a run, ‖θ − θ₀‖₂, `[runs]`."""
    lengths = [torch.linalg.vector_norm((a - b).flatten(1), dim=1) for a, b in zip(policy, start, strict=True)]
    return torch.linalg.vector_norm(torch.stack(lengths), dim=0)


def train(
    policy: Policy,
    loss: Callable[[Policy, int], Tensor],
    steps: int,
    *,
    optimizer: str,
    lr: float | Callable[[], float],
    on_step: Callable[[Policy, int], bool] | None = None,
) -> tuple[Policy, Tensor]:
    """Minimise `loss(policy, step)`, one value per run `[runs]`, for `steps` steps; runs stay independent.

    A run whose loss or parameters are no longer finite is stopped: its parameters become NaN, the others go on.

    Args:
        policy: where to start; not changed.
        loss: called with the current policy; the sum over runs is differentiated, which keeps gradients per run.
        steps, optimizer, lr: number of updates, a name in `OPTIMIZERS`, step size (a function is asked at each update).
        on_step: called before each update, and after the last one; true ends the training.

    Returns:
        The trained policy and, per run, the step at which it was stopped, −1 if it was not.
    """
    with network.one_torch_thread():
        return _train(policy, loss, steps, optimizer, lr, on_step)


def _train(
    policy: Policy,
    loss: Callable[[Policy, int], Tensor],
    steps: int,
    optimizer: str,
    lr: float | Callable[[], float],
    on_step: Callable[[Policy, int], bool] | None,
) -> tuple[Policy, Tensor]:
    parameters = Policy(*(p.detach().clone().requires_grad_() for p in policy))
    update = _updates(parameters, optimizer)
    stopped_at = torch.full((len(policy.first_weight),), -1, device=policy.first_weight.device)

    def stop(broken: Tensor, step: int) -> None:
        if broken.any():
            stopped_at[broken & (stopped_at < 0)] = step
            for p in parameters:
                p.data[broken] = torch.nan

    for step in range(steps):
        if on_step is not None and on_step(parameters, step):
            break
        losses = loss(parameters, step)
        gradients = torch.autograd.grad(losses.sum(), parameters)
        update(gradients, lr() if callable(lr) else lr, step)
        stop(~losses.detach().isfinite(), step)
    else:
        if on_step is not None:
            on_step(parameters, steps)
    trained = Policy(*(p.detach() for p in parameters))
    stop(~torch.stack([p.flatten(1).isfinite().all(1) for p in trained]).all(0), steps)
    return trained, stopped_at


def _updates(parameters: Policy, optimizer: str) -> Callable[[Sequence[Tensor], float, int], None]:
    """What makes one step from gradients, a step size and the number of the update: a kernel, or on a GPU PyTorch.

    PyTorch's own optimisers import its compiler first, which takes longer than a whole training.
    """
    code, torchs = OPTIMIZERS[optimizer]
    if network.computes(parameters):
        moments = [np.zeros((len(p), p[0].numel()), p.detach().numpy().dtype) for p in parameters for _ in range(2)]
        return lambda gradients, lr, step: network.update(code, parameters, gradients, moments, lr, step)
    made = torchs(list(parameters), 1.0)

    def step_by_torch(gradients: Sequence[Tensor], lr: float, step: int) -> None:
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient
        for group in made.param_groups:
            group["lr"] = lr
        made.step()

    return step_by_torch
