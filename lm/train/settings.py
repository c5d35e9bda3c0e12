"""Every choice of a training run as one checked value, for the command line, for recipes and for Python alike."""

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from common.renamed import takes_former_names
from ift import METHODS
from ift.fields import check_number_names
from lm.train.options import (
    DataOptions,
    EvaluationOptions,
    FileOptions,
    IFTOptions,
    LoraOptions,
    NumberOptions,
    PairOptions,
    RunOptions,
    TrainingOptions,
    number_help,
)
from lm.train.trainable import TRL_LACKS, TRL_LOSSES, require_trainable, trainable
from lm.trainers.names import NEW_NAMES

# Step sizes of TRL's own configurations; LoRA takes ten times as much, the tiny model of the lake 1e-3.
LEARNING_RATES = {"targets": 2e-5, "pairs": 1e-6}

_KINDS: dict[Any, tuple[Any, str]] = {
    int: (int, "a whole number"),
    float: (int | float, "a number"),
    float | None: (int | float | None, "a number"),
    str: (str, "text"),
    int | None: (int | None, "a whole number"),
    str | None: (str | None, "text"),
    bool: (bool, "true or false"),
}


@takes_former_names(NEW_NAMES)
@dataclass(frozen=True)
class TrainSettings(
    LoraOptions, NumberOptions, PairOptions, IFTOptions, EvaluationOptions, TrainingOptions, DataOptions, RunOptions
):
    """All choices of a run; a bad one raises `ValueError` with its name and what is allowed."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if get_origin(hint) is Literal and value not in get_args(hint):
                raise ValueError(f"{name} must be one of {', '.join(get_args(hint))}; got {value!r}")
            kinds, words = _KINDS.get(hint, (object, ""))
            if not isinstance(value, kinds) or (isinstance(value, bool) and kinds not in (bool, object)):
                raise ValueError(f"{name} must be {words}, got {value!r}")
        object.__setattr__(self, "method", require_trainable(self.method))
        _check_names_of_numbers()
        self._require("max_length", self.max_length >= 2, "at least 2")
        for name in ("batch_size", "per_device_train_batch_size", "devices",
                     "logging_steps", "save_steps", "prediction_top_k", "lora_alpha"):  # fmt: skip
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("min_lam", self.min_lam is None or 0 <= self.min_lam <= 1, "in [0, 1]")
        rate = self.learning_rate
        self._require("learning_rate", rate is None or 0 < rate < float("inf"), "a finite number above 0")
        methods = (*map(METHODS.__getitem__, trainable()), METHODS[self.method])  # its own ranges come last, and count
        for number in {number.name: number for method in methods for number in method.numbers}.values():
            value = getattr(self, number.name, None)
            self._require(number.name, value is None or number.holds(value), number.allowed)
        self._other_numbers()
        for name in ("lam_jitter", "weight_decay", "warmup_steps", "max_grad_norm", "lora_r", "eval_steps",
                     "early_stopping", "eval_answers", "neftune_noise_alpha"):  # fmt: skip
            self._require(name, 0 <= getattr(self, name) < float("inf"), "a finite number of 0 or more")
        for seed in (self.seed, *self.seeds):
            if not 0 <= seed < 2**32:
                raise ValueError(f"seed must be in [0, 2**32 − 1], got {seed}")
        self._require("seeds", len(set(self.seeds)) == len(self.seeds), "distinct numbers")
        self._require("lora_dropout", 0 <= self.lora_dropout < 1, "in [0, 1)")
        self._require("num_train_epochs", 0 < self.num_train_epochs < float("inf"), "above 0")
        if self.max_prompt_length is not None:
            held = 1 <= self.max_prompt_length < self.max_length
            self._require("max_prompt_length", held, f"at least 1 and below max_length {self.max_length}")
        self._require("early_stopping", not self.early_stopping or self.eval_steps > 0, "0 without eval_steps")
        self._require("eval_answers", not self.eval_answers or self.eval_steps > 0, "0 without eval_steps")
        self._require("keep", self.keep == "last" or self.eval_steps > 0, "last without eval_steps")
        self._require("max_steps", self.max_steps == -1 or self.max_steps > 0, "above 0, or -1 for none")
        self._require("dataset", bool(self.dataset), "at least one name")
        self._require("load_in_4bit", not self.load_in_4bit or self.lora_r > 0, "off unless lora_r is above 0")
        named = bool(self.lora_target_modules.strip(" ,"))
        self._require("lora_target_modules", named, "all-linear or names of layers")
        self._require("packing", not self.packing or not self.learns_from_pairs, f"off with {self.method}")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)}")

    @property
    def learns_from_pairs(self) -> bool:
        return METHODS[self.method].learns_from == "pairs"

    @property
    def prompt_limit(self) -> int:
        """Tokens that a prompt may have."""
        return self.max_prompt_length or min(512, self.max_length // 2)

    @property
    def numbers(self) -> dict[str, float]:
        """The method's own numbers by name: as given, else the method's default for language models."""
        other = self._other_numbers()
        given = {number: getattr(self, number.name, other.get(number.name)) for number in METHODS[self.method].numbers}
        return {number.name: number.text if value is None else value for number, value in given.items()}

    def _other_numbers(self) -> dict[str, float]:
        """What `method_numbers` gives, by name."""
        lacks = TRL_LACKS.get(self.method, ())
        known = {number.name: number for number in METHODS[self.method].numbers if number.name not in lacks}
        values: dict[str, float] = {}
        for text in self.method_numbers:
            name, _, value = text.partition("=")
            if name not in known:
                here = " here, as TRL's loss has none" if name in lacks else ""
                raise ValueError(
                    f"method_numbers: {self.method} has no number {name!r}{here} (it has: {', '.join(known) or 'none'})"
                )
            try:
                values[name] = float(value)
            except ValueError as error:
                raise ValueError(f"method_numbers must be NAME=VALUE with a number, got {text!r}") from error
            if not known[name].holds(values[name]):
                raise ValueError(f"{name} must be {known[name].allowed}, got {value}")
        return values

    @property
    def learning_rate_or_default(self) -> float:
        if self.learning_rate is not None:
            return self.learning_rate
        if self.model == "tiny-lake":
            return 1e-3
        return LEARNING_RATES[METHODS[self.method].learns_from] * (10 if self.lora_r else 1)


@dataclass(frozen=True)
class Groups:
    """The same options, in the groups that `--help` shows."""

    files: FileOptions = field(default_factory=FileOptions)
    run: RunOptions = field(default_factory=RunOptions)
    data: DataOptions = field(default_factory=DataOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    ift: IFTOptions = field(default_factory=IFTOptions)
    pairs: PairOptions = field(default_factory=PairOptions)
    numbers: NumberOptions = field(default_factory=NumberOptions)
    lora: LoraOptions = field(default_factory=LoraOptions)

    def settings(self) -> TrainSettings:
        """All of them as one value; raises `ValueError` for a bad one."""
        groups = [group for name, group in vars(self).items() if name != "files"]
        given = {name: value for group in groups for name, value in vars(group).items()}
        known = {each.name for each in fields(TrainSettings)}
        words = tuple(f"{name}={value!r}" for name, value in given.items() if name not in known and value is not None)
        return TrainSettings(
            **{name: value for name, value in given.items() if name in known}
            | {"method_numbers": (*given["method_numbers"], *words)}
        )


def _check_names_of_numbers() -> None:
    """Raise `ValueError` for a method from outside whose number has the name of an option that is no number of ours."""
    ours = {number.name for name, method in METHODS.items() if name not in METHODS.origins for number in method.numbers}
    groups = [each.default_factory for each in fields(Groups)]
    options = {option.name for group in groups for option in fields(group)}  # type: ignore[arg-type]
    for name in METHODS.origins:
        check_number_names(METHODS[name], {*options, *dir(TrainSettings), "help"} - ours, "python -m lm.train")


def groups_type() -> type[Groups]:
    """`Groups` with what the methods that are known by now add: their names in the help, and their own numbers."""
    _check_names_of_numbers()
    taken = {each.name for each in fields(TrainSettings)}
    own = [METHODS[name] for name in trainable() if name not in TRL_LOSSES]
    names = dict.fromkeys(number.name for method in own for number in method.numbers if number.name not in taken)
    options = [
        (name, Annotated[float | None, tyro.conf.arg(help=number_help(name), metavar="FLOAT")], field(default=None))
        for name in names
    ]
    numbers = make_dataclass("Numbers", options, bases=(NumberOptions,), frozen=True)
    numbers.__doc__ = NumberOptions.__doc__
    help_of_method = (
        f"One of {', '.join(trainable())}, or FILE.py:NAME for one of your own (docs/add-a-method.md). TRL trains "
        f"{', '.join(TRL_LOSSES)} with its own losses; its ipo averages log-probabilities over tokens."
    )
    hint = Annotated[str, tyro.conf.arg(help=help_of_method)]
    run = make_dataclass("Run", [("method", hint, field(default=RunOptions.method))], bases=(RunOptions,), frozen=True)
    run.__doc__ = RunOptions.__doc__
    added = [("run", run, field(default_factory=run)), ("numbers", numbers, field(default_factory=numbers))]
    return make_dataclass("Groups", added, bases=(Groups,), frozen=True)
