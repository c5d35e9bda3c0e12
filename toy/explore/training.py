"""A run that the page watches: every method trains through `toy.stages.fine_tune`, an update at a time."""

import threading
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from toy.explore.request import LARGEST, Request
from toy.lake import Lake
from toy.policy import Policy
from toy.stages import Problem, fine_tune, optimal_policies, start_policies
from toy.trials import Trial


class _Stopped(Exception):
    """Raised inside `fine_tune` to leave it."""


class Stepper:
    """A fine-tuning that makes one update each time it is asked to.

    `fine_tune` runs in a thread of its own, which waits in `on_step` until `begin` lets it make the next update;
    `wait` returns when that update is made. `numbers` may change between two updates.
    """

    def __init__(self, problem: Problem, trial: Trial, start: Policy, seeds: range):
        self.numbers: dict[str, float | Tensor] = dict(trial.settings.numbers_of(trial.value))
        self.lr = trial.settings.lr
        self.policy = start
        self._error: BaseException | None = None
        self._go, self._ready, self._closed = threading.Semaphore(0), threading.Semaphore(0), False
        arguments = (problem, trial, start, seeds)
        self._thread = threading.Thread(target=self._train, args=arguments, name=f"train {trial.method}", daemon=True)
        self._thread.start()
        self.wait()

    def begin(self) -> None:
        """Let the next update be made."""
        self._go.release()

    def wait(self) -> None:
        """Wait for that update; raises what the training raised."""
        self._ready.acquire()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the training, and wait until it has ended."""
        self._closed = True
        self._go.release()
        self._thread.join()

    def _train(self, problem: Problem, trial: Trial, start: Policy, seeds: range) -> None:
        def on_step(step: int, policy: Policy) -> None:
            self.policy = Policy(*(p.detach() for p in policy))
            self._ready.release()
            self._go.acquire()
            if self._closed:
                raise _Stopped

        try:
            fine_tune(problem, trial.value, self.numbers, start, seeds, on_step, lambda: self.lr, every=1)
        except _Stopped:
            return
        except Exception as error:  # handed to the thread that waits
            self._error = error
        self._ready.release()


class Run:
    """All methods of a request on its lake, from the same start policies, at the same update.

    A request may change while the run goes on: numbers and step size at once, the lake by going on from the policies as
    they are (its methods then compare with these as their reference).

    Attributes:
        update: how many updates every method has made.
        changed: what changed on the way, so that no command gives the same numbers any more.
    """

    def __init__(self, request: Request):
        self.request = request
        self.update = 0
        self.changed: list[str] = []
        self.problems = _problems(request)
        self.start, _ = start_policies(self.problem, self.seeds)
        self.optimum = optimal_policies(self.problem, self.start, self.seeds)
        self.steppers = self._steppers(dict.fromkeys(self.problems, self.start))

    @property
    def problem(self) -> Problem:
        """The lake with its optimum; what differs between methods are settings of their trainings."""
        return next(iter(self.problems.values()))

    @property
    def seeds(self) -> range:
        """The seeds of the runs of each method."""
        settings = self.request.all_settings
        return range(settings.seed, settings.seed + settings.seeds)

    @property
    def policies(self) -> dict[str, Policy]:
        """The policies as they are, by method."""
        return {name: stepper.policy for name, stepper in self.steppers.items()}

    def advance(self) -> None:
        """One update of every method."""
        for stepper in self.steppers.values():
            stepper.begin()
        for stepper in self.steppers.values():
            stepper.wait()
        self.update += 1

    def change(self, request: Request) -> None:
        """Go on with another request, from the policies as they are.

        Raises:
            ValueError: a lake that cannot be trained on; the run is then as it was.
        """
        lake_changed = not request.same_lake(self.request)
        if lake_changed:
            problems = _problems(request)
            optimum = optimal_policies(next(iter(problems.values())), self.start, self.seeds)
            policies = self.policies
            self.close()
            self.request, self.problems, self.optimum = request, problems, optimum
            self.steppers = self._steppers(policies)
        trials = request.trials
        numbers_changed = any(
            (stepper.lr, stepper.numbers) != (trials[name].settings.lr, _numbers(trials[name]))
            for name, stepper in self.steppers.items()
        )
        for name, stepper in self.steppers.items():
            stepper.lr = trials[name].settings.lr
            stepper.numbers.update(_numbers(trials[name]))
        self.request = request
        if self.update and (lake_changed or numbers_changed):
            what = "the lake" if lake_changed else "a number"
            self.changed.append(f"{what} changed at update {self.update}")

    def close(self) -> None:
        """End all trainings."""
        for stepper in self.steppers.values():
            stepper.close()

    def _steppers(self, policies: Mapping[str, Policy]) -> dict[str, Stepper]:
        trials = self.request.trials
        return {
            name: Stepper(problem, trials[name], policies[name], self.seeds) for name, problem in self.problems.items()
        }


def _problems(request: Request) -> dict[str, Problem]:
    """The lake as each method's settings see it; their number of updates is the most that a run can make."""
    lake = Lake.make(request.rows, slippery=request.slippery)
    most = int(LARGEST["steps"]) + 1  # so that the last one that a page may ask for is seen as well
    return {
        name: Problem.of(lake, replace(trial.settings, steps=most).shared()) for name, trial in request.trials.items()
    }


def _numbers(trial: Trial) -> dict[str, float | Tensor]:
    return dict(trial.settings.numbers_of(trial.value))
