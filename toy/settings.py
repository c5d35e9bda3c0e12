"""Every choice of an experiment as plain data, for the command line and for Python alike."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

import torch

from toy.planning import check_discount


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
    """Sub-optimal walk as actions from the start, such as right,right,down; found by search if not given."""


@dataclass(frozen=True)
class StartOptions:
    """The policy before fine-tuning."""

    width: int = 64
    """Hidden units."""
    start: Literal["noisy", "random", "both"] = "noisy"
    """noisy: trained toward a mix of optimum and uniform; both: on the optimal and sub-optimal walk; random: not."""
    start_steps: int = 100
    """Adam steps of that training."""
    start_lr: float = 3e-3
    """Its step size."""
    start_optimal_share: float = 0.6
    """Share of the optimal policy in the mix that `noisy` is trained toward."""


@dataclass(frozen=True)
class TrainingOptions:
    """Fine-tuning, the same for every method."""

    steps: int = 100
    """Updates."""
    lr: float = 3e-3
    """Step size."""
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    """Optimiser of the fine-tuning."""


@dataclass(frozen=True)
class IFTOptions:
    """Intuitive fine-tuning."""

    lam: float = 0.2
    """λ of the temporal residual connection, in [0, 1]; 0 is the target's state."""
    gamma: float = 0.95
    """γ of the relation propagation, in [0, 1]; 0 is none."""
    propagation: Literal["product", "sum"] = "product"
    """product: as in the released code; sum: the paper's equation."""
    source: Literal["loss", "logps", "mask"] = "loss"
    """What `product` sums along the walk."""
    norm: Literal["L1", "L2", "softmax", "log"] = "L1"
    """How `product` normalises its weights."""
    side: Literal["left", "right"] = "left"
    """Whether `product` sums over later (left) or earlier (right) steps."""
    prediction: Literal["greedy", "sampled", "expected"] = "greedy"
    """Which of the policy's own actions makes the predicted state."""
    residual: Literal["prediction", "noise"] = "prediction"
    """noise: a random direction as long as the residual in its place, to see what the prediction itself adds."""


@dataclass(frozen=True)
class PairOptions:
    """Methods that learn from pairs: dpo, ipo, orpo, kto, simpo."""

    beta: float | None = None
    """β of these methods; each its own if not given (dpo 2, ipo 0.5, orpo 0.1, kto 1, simpo 2)."""
    label_smoothing: float = 0.0
    """ε of conservative DPO, in [0, 0.5]."""
    margin: float = 0.5
    """Target margin of SimPO."""
    negatives: Literal["current", "start", "suboptimal"] = "current"
    """Rejected walks: sampled from the policy as it is, from the start policy, or the fixed sub-optimal walk."""
    negatives_per_step: int = 4
    """Rejected walks sampled per target and update."""
    horizon: int | None = None
    """Longest sampled walk, in steps; four times the longest optimal walk if not given."""


@dataclass(frozen=True)
class PPOOptions:
    """Proximal policy optimisation: clipped surrogate on its own episodes, standardised returns to go, no critic."""

    rollouts: int = 16
    """Episodes per batch."""
    epochs: int = 4
    """Updates per batch."""
    clip: float = 0.2
    """Clipping of the probability ratio."""


BETAS = {"dpo": 2.0, "ipo": 0.5, "orpo": 0.1, "kto": 1.0, "simpo": 2.0}


@dataclass(frozen=True)
class Settings(PPOOptions, PairOptions, IFTOptions, TrainingOptions, StartOptions, RunOptions):
    """All choices of an experiment on a lake; a bad one raises `ValueError` with its name and what is allowed."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            if hint is int and not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} must be a whole number, got {getattr(self, name)!r}")
            if hint is float and not isinstance(getattr(self, name), int | float):
                raise ValueError(f"{name} must be a number, got {getattr(self, name)!r}")
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                allowed = ", ".join(get_args(hint))
                raise ValueError(f"{name} must be one of {allowed}; got {getattr(self, name)!r}")
        for name in ("seeds", "width", "steps", "negatives_per_step", "rollouts", "epochs"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("seed", self.seed < 2**62, "below 2**62")
        for name in ("seed", "start_steps"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("lam", "gamma", "start_optimal_share"):
            self._require(name, 0 <= getattr(self, name) <= 1, "in [0, 1]")
        for name in ("lr", "start_lr", "clip"):
            self._require(name, 0 < getattr(self, name) < float("inf"), "a finite number above 0")
        self._require("beta", self.beta is None or 0 < self.beta < float("inf"), "a finite number above 0")
        self._require("margin", abs(self.margin) < float("inf"), "a finite number")
        self._require("horizon", self.horizon is None or self.horizon >= 1, "at least 1")
        self._require("label_smoothing", 0 <= self.label_smoothing <= 0.5, "in [0, 0.5]")
        check_discount(self.discount)
        self._check_device()

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)}")

    def _check_device(self) -> None:
        try:
            torch.ones(1, device=self.device).cpu()
        # RuntimeError: unknown or absent; AssertionError: torch built without CUDA; NotImplementedError: `meta`.
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(f"device {self.device!r} is not there: this machine has {_devices()}") from error
        if torch.device(self.device).type == "mps" and self.dtype == "float64":
            raise ValueError("dtype float64 is not there on mps: take --dtype float32, or --device cpu")

    def beta_of(self, method: str) -> float:
        """β of a method: the one given, or the method's own."""
        return BETAS[method] if self.beta is None else self.beta

    def as_dict(self) -> dict:
        """The settings as JSON-ready data."""
        return dataclasses.asdict(self)


def _devices() -> str:
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return ", ".join(["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])])
