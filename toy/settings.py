"""Every choice of an experiment as plain data, for the command line and for Python alike.

Two kinds are kept apart by type. `SharedSettings` is what runs that are trained side by side have in common. The
numbers of the methods (`NumberOptions`) may differ between such runs, so code that trains a block of runs is given the
first kind only, and takes numbers from `toy.objectives.Task`, where each run has its own.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from common.renamed import takes_former_names
from ift import METHODS, Method
from ift.fields import check_number_names
from ift.propagation import Norm, Side, Source

FORMER_NAMES = {"propagation": "form"}


@dataclass(frozen=True)
class RunOptions:
    """The runs."""

    seeds: int = 32
    """Number of runs per method; every method gets the same seeds."""
    seed: int = 0
    """First seed."""
    device: str = "cpu"
    """Torch device, such as cpu or cuda."""
    dtype: Literal["float32", "float64"] = "float64"
    """Precision of the networks."""
    discount: float = 0.99
    """Discount of the returns that define the optimum, per step, strictly between 0 and 1."""
    suboptimal: str | None = None
    """Sub-optimal trajectory as actions from the start, such as right,right,down; found by search if not given."""


@dataclass(frozen=True)
class StartOptions:
    """The policy before fine-tuning."""

    width: int = 64
    """Hidden units."""
    start: Literal["noisy", "random", "both"] = "noisy"
    """noisy: trained toward a mix of optimum and uniform; both: on the optimal and the sub-optimal trajectory; random:
    not trained."""
    start_steps: int = 100
    """Adam steps of that training."""
    start_lr: float = 3e-3
    """Its step size."""
    start_optimal_share: float = 0.6
    """Share of the optimal policy in the mix that `noisy` is trained toward."""
    start_suboptimal_share: float = 0.5
    """Share of the sub-optimal trajectory in what `both` is trained on; above 0.5 the start prefers that way."""


@dataclass(frozen=True)
class TrainingOptions:
    """Fine-tuning, the same for every method."""

    # The other spellings are those of `python -m lm.train`, whose names are TRL's.
    steps: Annotated[int, tyro.conf.arg(aliases=["--max-steps"])] = 100
    """Updates."""
    lr: Annotated[float, tyro.conf.arg(aliases=["--learning-rate"])] = 3e-3
    """Step size."""
    optimizer: Annotated[Literal["adam", "rmsprop", "sgd"], tyro.conf.arg(aliases=["--optim"])] = "adam"
    """Optimiser of the fine-tuning; sgd is plain gradient descent."""


@dataclass(frozen=True)
class IFTOptions:
    """Intuitive fine-tuning."""

    form: Literal["product", "sum"] = "product"
    """product: propagation as in the released code; sum: the paper's equation."""
    source: Source = "loss"
    """What `product` sums along the trajectory."""
    norm: Norm = "L1"
    """How `product` normalises its weights."""
    side: Side = "left"
    """Whether `product` sums over later (left) or earlier (right) steps."""
    prediction: Literal["greedy", "sampled", "expected"] = "greedy"
    """Which of the policy's own actions makes the predicted state."""
    residual: Literal["prediction", "noise"] = "prediction"
    """noise: a random direction as long as the residual in its place, to see what the prediction itself adds."""


@dataclass(frozen=True)
class PairOptions:
    """Methods that learn from pairs."""

    negatives: Literal["current", "start", "suboptimal"] = "current"
    """Rejected trajectories: sampled from the policy as it is, from the start policy, or the fixed sub-optimal one."""
    negatives_per_step: int = 4
    """Rejected trajectories sampled per target and update."""
    horizon: int | None = None
    """Longest sampled trajectory, in steps; four times the longest optimal one if not given."""


@dataclass(frozen=True)
class PPOOptions:
    """Proximal policy optimisation: clipped surrogate on its own episodes, standardised returns to go, no critic."""

    rollouts: int = 16
    """Episodes per batch."""
    epochs: int = 4
    """Updates per batch."""


@dataclass(frozen=True)
class SharedSettings(PPOOptions, PairOptions, IFTOptions, TrainingOptions, StartOptions, RunOptions):
    """What runs that are trained side by side have in common: everything but the numbers of the methods."""


def _owners(name: str) -> list[Method]:
    """The methods that have a number of that name."""
    return [method for method in METHODS.values() if name in (number.name for number in method.numbers)]


def _help(name: str) -> str:
    """What `--help` says of a number: from the methods that have it."""
    owners = _owners(name)
    number = owners[0].number(name)
    defaults = ", ".join(f"{method.number(name).lake:g} for {method.name}" for method in owners)
    return f"{number.sentence}. It must be {number.allowed}; if not given, {defaults}."


@dataclass(frozen=True)
class NumberOptions:
    """Numbers of the methods: one that is given here holds for every method that has it.

    Those that are not given are the protocol's (the default of --numbers), or else the method's own default.
    """

    lam: Annotated[float | None, tyro.conf.arg(help=_help("lam"), metavar="FLOAT")] = None
    gamma: Annotated[float | None, tyro.conf.arg(help=_help("gamma"), metavar="FLOAT")] = None
    beta: Annotated[float | None, tyro.conf.arg(help=_help("beta"), metavar="FLOAT")] = None
    label_smoothing: Annotated[float | None, tyro.conf.arg(help=_help("label_smoothing"), metavar="FLOAT")] = None
    margin: Annotated[float | None, tyro.conf.arg(help=_help("margin"), metavar="FLOAT")] = None
    clip: Annotated[float | None, tyro.conf.arg(help=_help("clip"), metavar="FLOAT")] = None
    numbers: tuple[str, ...] = ()
    """Numbers of one method each, as METHOD.NAME=VALUE, such as dpo.beta=1 orpo.beta=0.25."""


def other_numbers() -> type:
    """A class of options like `NumberOptions`, with all numbers of the known methods that it does not have.

    Raises:
        ValueError: a method from outside whose number has the name of a setting.
    """
    for method in METHODS.values():
        check_number_names(method, _SETTINGS, "python -m toy.frozenlake")
    known = {each.name for each in fields(NumberOptions)}
    names = dict.fromkeys(number.name for method in METHODS.values() for number in method.numbers)
    options = []
    for name in (name for name in names if name not in known):
        hint = Annotated[float | None, tyro.conf.arg(help=_help(name), metavar="FLOAT")]
        options.append((name, hint, field(default=None)))
    made = make_dataclass("OtherNumbers", options, frozen=True)
    made.__doc__ = "Numbers of single methods: one that is given here holds for every method that has it."
    return made


def as_numbers(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Numbers by name, where they are given, as `Settings.numbers` has them: for every method that has them."""
    return tuple(
        f"{method.name}.{name}={value!r}"
        for name, value in given.items()
        if value is not None
        for method in _owners(name)
    )


@takes_former_names(FORMER_NAMES)
@dataclass(frozen=True)
class Settings(NumberOptions, SharedSettings):
    """All choices of an experiment on a lake; a bad one raises `ValueError` with its name and what is allowed."""

    def __post_init__(self) -> None:
        self._check_types()
        for name in ("seeds", "width", "steps", "negatives_per_step", "rollouts", "epochs"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("seed", self.seed < 2**62, "below 2**62")
        for name in ("seed", "start_steps"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("start_optimal_share", "start_suboptimal_share"):
            self._require(name, 0 <= getattr(self, name) <= 1, "in [0, 1]")
        for name in ("lr", "start_lr"):
            self._require(name, 0 < getattr(self, name) < float("inf"), "a finite number above 0")
        self._require("horizon", self.horizon is None or self.horizon >= 1, "at least 1")
        if not 0 < self.discount < 1:
            raise ValueError(f"discount must lie strictly between 0 and 1, got {self.discount}")
        for method in METHODS.values():
            check_number_names(method, _SETTINGS, "python -m toy.frozenlake")
            for number in method.numbers:
                value = getattr(self, number.name, None)
                self._require(number.name, value is None or number.holds(value), number.allowed)
        self._numbers_by_method()
        if self.device != "cpu":
            self._check_device()

    def _check_types(self) -> None:
        for name, hint in get_type_hints(SharedSettings).items():
            value = getattr(self, name)
            if hint is int and not isinstance(value, int):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
            if hint is float and not isinstance(value, int | float):
                raise ValueError(f"{name} must be a number, got {value!r}")
            if get_origin(hint) is Literal and value not in get_args(hint):
                raise ValueError(f"{name} must be one of {', '.join(get_args(hint))}; got {value!r}")
        for option in fields(NumberOptions):
            value = getattr(self, option.name)
            if option.name != "numbers" and not isinstance(value, int | float | None):
                raise ValueError(f"{option.name} must be a number, got {value!r}")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)}")

    def _check_device(self) -> None:
        import torch

        try:
            torch.ones(1, device=self.device).cpu()
        # PyTorch's own: RuntimeError for what is unknown or absent, AssertionError where it was built without CUDA,
        # NotImplementedError for `meta`, which holds no numbers; nothing is left undone here.
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
            devices = ", ".join(["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])])
            raise ValueError(f"device {self.device!r} is not there: this machine has {devices}") from error
        if torch.device(self.device).type == "mps" and self.dtype == "float64":
            raise ValueError("dtype float64 is not there on mps: take --dtype float32, or --device cpu")

    def _numbers_by_method(self) -> dict[str, float]:
        """What `numbers` gives, by METHOD.NAME."""
        values = {}
        for text in self.numbers:
            key, equals, value = text.partition("=")
            owner, _, name = key.partition(".")
            if not equals or not name:
                raise ValueError(f"numbers must be METHOD.NAME=VALUE, such as dpo.beta=1; got {text!r}")
            if owner not in METHODS:
                raise ValueError(f"numbers: the method of {text!r} is unknown (known: {', '.join(METHODS)})")
            known = {number.name: number for number in METHODS[owner].numbers}
            if name not in known:
                raise ValueError(f"numbers: {owner} has no number {name!r} (it has: {', '.join(known) or 'none'})")
            values[key] = _as_number(text, value)
            if not known[name].holds(values[key]):
                raise ValueError(f"numbers: {key} must be {known[name].allowed}, got {value}")
        return values

    def number(self, method: Method, name: str) -> float:
        """A method's number: the one given for all methods, else the one given for it, else its own default."""
        for_all = getattr(self, name, None)
        if for_all is not None:
            return float(for_all)
        return self._numbers_by_method().get(f"{method.name}.{name}", method.number(name).lake)

    def numbers_of(self, method: Method) -> dict[str, float]:
        """All numbers of a method, by name."""
        return {number.name: self.number(method, number.name) for number in method.numbers}

    def shared(self) -> SharedSettings:
        """What runs have in common that differ in the numbers of their methods."""
        return SharedSettings(**{each.name: getattr(self, each.name) for each in fields(SharedSettings)})

    def as_dict(self) -> dict:
        """The settings as JSON-ready data."""
        return dataclasses.asdict(self)


# What no number of a method may be called: every other part of the settings, and other spellings of options.
_ALIASES = (*FORMER_NAMES, "max_steps", "learning_rate", "optim", "output_dir", "help", "numbers")
_SETTINGS = {*dir(Settings), *_ALIASES} - ({each.name for each in fields(NumberOptions)} - {"numbers"})


def _as_number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f"numbers: the value of {text!r} is not a number") from error
