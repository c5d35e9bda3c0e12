"""Training many independent networks at once by a loss whose gradient autograd finds."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from toy.kernels import network, steps
from toy.policy import Packed, Pass, Policy, kernels_know, pack
from toy.threads import one_torch_thread, split

OPTIMIZERS: dict[str, tuple[int, Callable[..., torch.optim.Optimizer]]] = {  # of the kernels, and PyTorch's
    "adam": (steps.ADAM, lambda parameters, lr: torch.optim.Adam(parameters, lr, fused=True)),
    "rmsprop": (steps.RMSPROP, lambda parameters, lr: torch.optim.RMSprop(parameters, lr, foreach=True)),
    "sgd": (steps.SGD, lambda parameters, lr: torch.optim.SGD(parameters, lr, fused=True)),
}


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
    learner = ByKernels(policy, optimizer) if kernels_know(policy) else ByProducts(policy, optimizer)
    stopped_at = torch.full((len(policy.first_weight),), -1, device=policy.first_weight.device)

    def stop(broken: Tensor, step: int) -> None:
        if broken.any():
            stopped_at[broken & (stopped_at < 0)] = step
            for p in learner.policy:
                p.data[broken] = torch.nan

    with one_torch_thread():
        for step in range(steps):
            if on_step is not None and on_step(learner.policy, step):
                break
            losses = loss(learner.policy, step)
            learner.update(losses.sum(), lr() if callable(lr) else lr, step)
            stop(~losses.detach().isfinite(), step)
        else:
            if on_step is not None:
                on_step(learner.policy, steps)
        stop(~torch.stack([p.detach().flatten(1).isfinite().all(1) for p in learner.policy]).all(0), steps)
    return learner.trained(), stopped_at


class ByKernels:
    """Networks in training whose passes and updates are kernels: autograd sees the loss, from log π on.

    For each update every parameter is read and written once, in pieces of runs that fit a core's cache.
    """

    def __init__(self, start: Policy, optimizer: str):
        theta = pack(start)
        self.policy = Packed.of(theta, passes=[])
        self.moments = (np.zeros_like(theta), np.zeros_like(theta))
        self.optimizer = OPTIMIZERS[optimizer][0]

    def update(self, loss: Tensor, lr: float, step: int) -> None:
        """One update from the sum of all runs' losses."""
        theta, passes = self.policy.theta, self.policy.passes or []
        slopes = torch.autograd.grad(loss, [read.log_probs for read in passes], allow_unused=True)
        used = [(read, slope) for read, slope in zip(passes, slopes, strict=True) if slope is not None]
        passes.clear()
        runs, rows, width = theta.shape
        unread = [np.empty((runs, 0, last), theta.dtype) for last in (width, 4, 4)]
        cells = _joined([pair for pair in used if pair[0].where.ndim == 1], (np.empty(0, np.int64), *unread))
        vectors = _joined(
            [pair for pair in used if pair[0].where.ndim == 3], (np.empty((runs, 0, rows - 6), theta.dtype), *unread)
        )
        arguments = (theta, *self.moments, cells[0], cells[1:], vectors[0], vectors[1:], self.optimizer, lr, step)
        split(lambda begin, end: network.learn(begin, end, *arguments), runs, rows)

    def trained(self) -> Policy:
        """The policy as it is."""
        return Packed.of(self.policy.theta)


def _joined(used: list[tuple[Pass, Tensor]], unread: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """States, hidden units, log π and the loss's gradient by it, of all passes one behind the other."""
    parts = [(read.where, read.hidden, read.log_probs.detach().numpy(), slope.numpy()) for read, slope in used]
    joined = [
        part[0] if len(part) == 1 else np.concatenate(part, min(1, part[0].ndim - 1))
        for part in zip(*parts, strict=True)
    ]
    return tuple(np.ascontiguousarray(part) for part in joined) or unread


class ByProducts:
    """The same by autograd through the whole network and PyTorch's optimisers: for a GPU, and to define the kernels."""

    def __init__(self, start: Policy, optimizer: str):
        self.policy = Policy(*(p.detach().clone().requires_grad_() for p in start))
        self.optimizer = OPTIMIZERS[optimizer][1](list(self.policy), 1.0)

    def update(self, loss: Tensor, lr: float, step: int) -> None:
        """One update from the sum of all runs' losses."""
        for p, gradient in zip(self.policy, torch.autograd.grad(loss, self.policy), strict=True):
            p.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()

    def trained(self) -> Policy:
        """The policy as it is."""
        return Policy(*(p.detach() for p in self.policy))
