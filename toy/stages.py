"""The three stages of a run: start policy → optimal parameterised policy → fine-tuning by a method; runs in batches."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ift import Method
from toy import compiled
from toy.kernels.streams import streams_of
from toy.lake import Lake
from toy.objectives import Drawn, Task, draw, objective, refreshed
from toy.planning import Plan, value_iteration
from toy.policy import Policy, cell_log_probs, init_policy, kernels_know
from toy.rollout import Dynamics, Episodes
from toy.settings import SharedSettings
from toy.training import train
from toy.trajectories import (
    Trajectories,
    Trajectory,
    given_trajectory,
    optimal_trajectories,
    stack,
    suboptimal_trajectory,
)

OPTIMUM_GAP = 0.01  # the optimal parameterised policy matches when no probability is farther than this from π*
OPTIMUM_STEPS = 5000  # updates after which it is given up
OPTIMUM_LR = 1e-2
LARGEST_LAKE = 1024  # cells; the networks and their exact scores use dense tables over cells


@dataclass(frozen=True, eq=False)
class Problem:
    """A lake with its optimum and the trajectories that methods learn from, on the settings' device."""

    lake: Lake
    settings: SharedSettings
    plan: Plan
    targets: list[Trajectory]  # an optimal trajectory from each start cell
    suboptimal: list[Trajectory | None]  # a sub-optimal one, None where the lake has none
    dynamics: Dynamics
    optimum: Tensor  # π* `[cells, 4]`
    live: Tensor  # where the episode goes on, `[cells]` bool

    @classmethod
    def of(cls, lake: Lake, settings: SharedSettings) -> "Problem":
        """Solve the lake and find its trajectories.

        Raises:
            ValueError: a lake too large for dense tables, rewards under which the optimum never reaches a goal, a given
                sub-optimal trajectory that does not reach one, or settings that ask for one where the lake has none.
        """
        if len(lake.next_cell) > LARGEST_LAKE:
            raise ValueError(
                f"map has {len(lake.next_cell)} cells, networks are trained on up to {LARGEST_LAKE}: take a smaller "
                "one (toy.value_iteration solves lakes of any size)"
            )
        plan = value_iteration(lake, settings.discount)
        starts = lake.starts.tolist()
        targets = [trajectory for start in starts for trajectory in islice(optimal_trajectories(lake, plan, start), 1)]
        if len(targets) < len(starts):
            raise ValueError(
                f"rewards {lake.reward_schedule} make it optimal never to reach a goal: there is no trajectory to learn"
            )
        suboptimal = [
            suboptimal_trajectory(lake, plan, start)
            if settings.suboptimal is None
            else given_trajectory(lake, settings.suboptimal, start, "suboptimal")
            for start in starts
        ]
        device, dtype = torch.device(settings.device), getattr(torch, settings.dtype)
        problem = cls(
            lake=lake,
            settings=settings,
            plan=plan,
            targets=targets,
            suboptimal=suboptimal,
            dynamics=Dynamics.of(lake, dtype, device),
            optimum=torch.as_tensor(plan.policy, dtype=dtype, device=device),
            live=torch.as_tensor(~lake.terminal, device=device),
        )
        problem.check(settings)
        return problem

    @property
    def on_target(self) -> np.ndarray:
        """Which cells a target trajectory visits, `[cells]` bool."""
        visited = {cell for target in self.targets for cell, _ in target}
        return np.isin(np.arange(len(self.live)), list(visited))

    def check(self, settings: SharedSettings) -> None:
        """Raise `ValueError` if settings ask for a sub-optimal trajectory where the lake has none."""
        if None in self.suboptimal and (settings.start == "both" or settings.negatives == "suboptimal"):
            raise ValueError(
                "suboptimal must be given: this map has no second way to a goal that could be found, and the start or "
                "the negatives need one. Take --protocol adam, or --start noisy and --negatives current"
            )

    @property
    def target_trajectories(self) -> Trajectories:
        """The optimal trajectories as tensors `[starts, steps]`."""
        return stack(self.targets).map(lambda part: part.to(self.live.device))

    @property
    def suboptimal_trajectories(self) -> Trajectories | None:
        """The sub-optimal trajectories `[starts, steps]`, if every start cell has one."""
        known = [trajectory for trajectory in self.suboptimal if trajectory is not None]
        return stack(known).map(lambda part: part.to(self.live.device)) if len(known) == len(self.targets) else None


def start_policies(problem: Problem, seeds: Sequence[int]) -> tuple[Policy, Tensor]:
    """Each seed's network before fine-tuning (`settings.start`), and the update at which it was stopped or −1."""
    settings, optimum = problem.settings, problem.optimum
    policy = init_policy(len(optimum), settings.width, seeds, optimum.dtype, optimum.device)
    if settings.start == "random":
        return policy, torch.full((len(seeds),), -1)
    if settings.start == "noisy":
        aim = settings.start_optimal_share * optimum + (1 - settings.start_optimal_share) / 4
    else:
        fixed = problem.suboptimal_trajectories
        assert fixed is not None
        share = settings.start_suboptimal_share
        counts = 2 * (1 - share) * _action_counts(problem.target_trajectories, optimum)
        counts = counts + 2 * share * _action_counts(fixed, optimum)
        aim = counts / counts.sum() * problem.live.sum()
    aim = aim * problem.live[:, None] / problem.live.sum()
    if kernels_know(policy):
        return compiled.fit_tables(policy, aim, settings.start_steps, settings.start_lr)[:2]
    return train(policy, _cross_entropy(aim), settings.start_steps, optimizer="adam", lr=settings.start_lr)


def optimal_policies(problem: Problem, start: Policy, seeds: Sequence[int]) -> Policy:
    """The optimal parameterised policies: each seed's network, from its start, trained on π* until it matches.

    A network is kept as it is at its first match, whatever the others beside it still need. One that does not match
    within `OPTIMUM_STEPS` updates is kept as it is then, with a warning.
    """
    aim = problem.optimum * problem.live[:, None] / problem.live.sum()
    if kernels_know(start):
        known = torch.stack([p.flatten(1).isfinite().all(1) for p in start]).all(0)  # others were stopped
        matched, _, matches = compiled.fit_tables(start, aim, OPTIMUM_STEPS, OPTIMUM_LR, problem.optimum, OPTIMUM_GAP)
        done = matches | ~known
    else:
        matched, done = _trained_to_match(problem, start, aim)
    if not done.all():
        missed = [seed for seed, ok in zip(seeds, done.tolist(), strict=True) if not ok]
        warnings.warn(
            f"the optimal parameterised policy of seeds {missed} is still farther than {OPTIMUM_GAP} from the optimum "
            f"after {OPTIMUM_STEPS} updates, so their parameter MSE says little: a larger width may help",
            stacklevel=2,
        )
    return matched


def _trained_to_match(problem: Problem, start: Policy, aim: Tensor) -> tuple[Policy, Tensor]:
    """Each network at its first match, and whether it needs no more training, `[runs]`: the kernel's definition."""
    matched = Policy(*(p.clone() for p in start))
    done = ~torch.stack([p.flatten(1).isfinite().all(1) for p in start]).all(0)  # stopped: nothing to train from

    def keep_matches(policy: Policy, step: int) -> bool:
        gap = (cell_log_probs(policy).detach().exp() - problem.optimum)[:, problem.live].abs().amax((1, 2))
        matches = gap <= OPTIMUM_GAP
        new = ~done & (matches | (step == OPTIMUM_STEPS))
        for kept, p in zip(matched, policy, strict=True):
            kept[new] = p.detach()[new]
        done.logical_or_(matches)
        return bool(done.all())

    train(start, _cross_entropy(aim), OPTIMUM_STEPS, optimizer="adam", lr=OPTIMUM_LR, on_step=keep_matches)
    return matched, done


@dataclass(frozen=True, eq=False)
class FineTuned:
    """Policies after fine-tuning, and per run: the update at which it was stopped or −1, and the steps it sampled."""

    policy: Policy
    stopped_at_step: Tensor
    sampled_steps: Tensor


def fine_tune(
    problem: Problem,
    method: Method,
    numbers: Mapping[str, float | Tensor],
    start: Policy,
    seeds: Sequence[int],
    on_step: Callable[[int, Policy], None] = lambda step, policy: None,
    lr: Callable[[], float] | None = None,
    every: int | None = None,
) -> FineTuned:
    """Train the start policies by a method; each seed has a stream of random numbers of its own, the same for all.

    `on_step` is called with every `every`-th update (none: the first alone) before it is made. `numbers` are the
    method's, each one for all runs or `[runs]`; they and the step size `lr`, if given, are looked up then, so that a
    caller may change them there. The kernels of `toy.compiled` train what they can; autograd is the definition.
    """
    task = make_task(problem, method, numbers, start, seeds)
    every = every or problem.settings.steps
    train_by = fine_tune_compiled if compiled.trains(start, task) else fine_tune_by_autograd
    return train_by(task, start, on_step, lr or (lambda: problem.settings.lr), every)


def fine_tune_compiled(
    task: Task, start: Policy, on_step: Callable[[int, Policy], None], lr: Callable[[], float], every: int
) -> FineTuned:
    """`fine_tune` by the kernels."""
    training, steps = compiled.Training(start), task.settings.steps
    for step in range(0, steps, every):
        on_step(step, training.policy)
        training.advance(task, min(every, steps - step), lr())
    training.finish()
    return FineTuned(training.policy, *(torch.as_tensor(n) for n in (training.stopped_at_step, training.sampled_steps)))


def fine_tune_by_autograd(
    task: Task, start: Policy, on_step: Callable[[int, Policy], None], lr: Callable[[], float], every: int
) -> FineTuned:
    """`fine_tune` with the gradients that autograd finds."""
    updates_per_draw = task.settings.epochs if task.method.learns_from == "rollouts" else 1
    sampled_steps = torch.zeros(len(task.generators), dtype=torch.long, device=task.reference.device)
    drawn: Drawn = None

    def loss(policy: Policy, step: int) -> Tensor:
        nonlocal drawn, task
        if step % every == 0:
            on_step(step, policy)
        task = refreshed(policy, task, step)
        if step % updates_per_draw == 0:
            drawn = draw(policy, task)
            if drawn is not None and isinstance(drawn.trajectories, Episodes):
                sampled_steps.add_(drawn.trajectories.mask.sum((1, 2)))
        return objective(policy, task, drawn)

    policy, stopped_at = train(start, loss, task.settings.steps, optimizer=task.settings.optimizer, lr=lr)
    return FineTuned(policy, stopped_at, sampled_steps)


def make_task(
    problem: Problem, method: Method, numbers: Mapping[str, float | Tensor], start: Policy, seeds: Sequence[int]
) -> Task:
    """What a method may learn from, with fresh streams of random numbers."""
    targets, generators = problem.target_trajectories, [np.random.default_rng([seed, 1]) for seed in seeds]
    return Task(
        method=method,
        numbers=numbers,
        settings=problem.settings,
        dynamics=problem.dynamics,
        targets=targets,
        suboptimal=problem.suboptimal_trajectories,
        reference=cell_log_probs(start),
        optimum=problem.optimum,
        generators=generators,
        streams=streams_of(generators),
        horizon=problem.settings.horizon or 4 * targets.cells.shape[-1],
    )


def _action_counts(trajectories: Trajectories, like: Tensor) -> Tensor:
    """How often each action is taken in each cell, `[cells, 4]`."""
    return torch.zeros_like(like).index_put_(
        (trajectories.cells, trajectories.actions), trajectories.mask.to(like.dtype), accumulate=True
    )


def _cross_entropy(aim: Tensor) -> Callable[[Policy, int], Tensor]:
    """−Σ_{s,a} aim(s, a) log π(a | s), one value per run."""
    return lambda policy, step: -(cell_log_probs(policy) * aim).sum((1, 2))
