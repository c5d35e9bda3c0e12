"""Every choice of a training run as plain data, for the command line, for recipes and for Python alike.

Names that TRL has are TRL's, and go to its configuration as they are.
"""

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

from common.renamed import takes_former_names
from ift import METHODS
from ift.propagation import Norm, Side, Source
from ift.targets import GAMMA, LAM
from lm.train.trainable import TRL_LOSSES, require_trainable, trainable
from lm.trainers.names import NEW_NAMES

# Step sizes of TRL's own configurations; LoRA takes ten times as much, the tiny model of the lake 1e-3.
LEARNING_RATES = {"targets": 2e-5, "pairs": 1e-6}

Flag = tyro.conf.FlagCreatePairsOff[bool]
_KINDS: dict[Any, tuple[Any, str]] = {
    int: (int, "a whole number"),
    float: (int | float, "a number"),
    float | None: (int | float | None, "a number"),
    str: (str, "text"),
    str | None: (str | None, "text"),
    bool: (bool, "true or false"),
}


def _number_help(name: str) -> str:
    """What a number is, with each method that has it and its default there."""
    methods = [METHODS[method] for method in trainable() if any(name == each.name for each in METHODS[method].numbers)]
    by_default: dict[float, list[str]] = {}
    for method in methods:
        by_default.setdefault(method.number(name).text, []).append(method.name)
    defaults = "; ".join(f"{value:g} for {', '.join(names)}" for value, names in by_default.items())
    return f"{methods[0].number(name).help}; if it is not given, {defaults}."


@dataclass(frozen=True)
class RunOptions:
    """What is trained, and where it goes."""

    method: str = "ift"
    model: str = "tiny-lake"
    """Hub name, local folder, .gguf file, or tiny-lake: a Mistral of 0.8M parameters that is trained here, once."""
    output_dir: str | None = None
    """Folder for the model, checkpoints and logs; results/lm-METHOD-MODEL-DIGEST if not given."""
    resume: Flag = False
    """Go on from the newest whole checkpoint in the folder."""
    overwrite: Flag = False
    """Write into a folder that holds another run; its files are removed."""
    dry_run: Flag = False
    """Print size, tokens per step, memory and time, and stop."""
    devices: int = 1
    """Devices that --dry-run reckons with; a run takes what it is launched on."""
    seed: int = 0
    """Seed of the data order, the draws from data sets and new weights."""
    trust_remote_code: Flag = False
    """Run code that comes with the model from the Hub."""


@dataclass(frozen=True)
class DataOptions:
    """The data; methods that learn from targets take the chosen answers of pairs."""

    dataset: tuple[str, ...] = ("lake:512",)
    """NAME, NAME:ROWS, NAME@SPLIT or NAME@SPLIT:ROWS each: lake, lake-english, lake-slippery,
    lake-slippery-english, lake-base, ultrachat, ultrafeedback, a Hub name, a local file."""
    eval_dataset: tuple[str, ...] = ()
    """The same, for the loss before and after; the lake has its own held-out maps."""
    max_length: int = 1024
    """Tokens of prompt and answer; an answer that goes beyond loses its end."""
    max_prompt_length: int = 512
    """Tokens of the prompt; a longer one loses its beginning."""
    packing: Flag = False
    """Put several examples in a row, with methods that learn from targets."""
    chat_template: str = "auto"
    """auto: the tokenizer's, zephyr if it has none; zephyr; none: prompt and answer as they are; or a .jinja file."""


@dataclass(frozen=True)
class TrainingOptions:
    """The updates; names are TRL's where it has one."""

    num_train_epochs: float = 3.0
    """Passes over the data."""
    max_steps: int = -1
    """Updates, if above 0: then epochs do not count."""
    learning_rate: float | None = None
    """Step size; if not given, TRL's for the method, ten times that for LoRA, 1e-3 for tiny-lake."""
    batch_size: int = 32
    """Sequences (or pairs) per update, over all devices; accumulation follows from it."""
    per_device_train_batch_size: int = 8
    """Sequences (or pairs) that a device holds at a time."""
    optim: str = "adamw_torch"
    """Optimiser, by its name in transformers, such as rmsprop or adamw_8bit."""
    weight_decay: float = 0.0
    """Weight decay."""
    lr_scheduler_type: str = "cosine"
    """Schedule of the step size, by its name in transformers."""
    warmup_steps: float = 0.1
    """Warm-up, in updates, or as a share of them below 1."""
    max_grad_norm: float = 1.0
    """Norm at which gradients are clipped."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision; auto: bfloat16 where the device has it, float32 on CPU."""
    gradient_checkpointing: Flag = False
    """Compute activations twice instead of keeping them."""
    logging_steps: int = 10
    """Updates between log lines."""
    save_steps: int = 500
    """Updates between checkpoints."""
    report_to: str = "none"
    """Where else to log: wandb, tensorboard, …"""
    trainer: tuple[str, ...] = ()
    """Any other option of TRL's configuration, as NAME=VALUE."""


@dataclass(frozen=True)
class IFTOptions:
    """Intuitive fine-tuning; defaults as its authors released."""

    lam: float = LAM.text
    """λ of the temporal residual connection, in [0, 1]; 0 is the target's state."""
    min_lam: float | None = None
    """λ at step 0; it rises to lam over the warm-up. Constant if not given."""
    lam_jitter: float = 0.0
    """Standard deviation of the noise on λ, relative to λ."""
    gamma: float = GAMMA.text
    """γ of the relation propagation, in [0, 1]; 0 is none."""
    form: Literal["product", "sum"] = "product"
    """product: as in the released code; sum: the paper's equation."""
    source: Source = "loss"
    """What the form `product` sums along the answer."""
    norm: Norm = "L1"
    """How the form `product` normalises its weights."""
    side: Side = "left"
    """Whether the form `product` sums over later (left) or earlier (right) tokens."""
    prediction: Literal["greedy", "sampled", "expected", "lagged"] = "greedy"
    """Token that the model is taken to say; lagged: what it said in the previous epoch, for the cost of SFT."""
    prediction_top_k: int = 8
    """Tokens of `expected`."""
    loss_average: Literal["sequence", "token"] = "sequence"
    """sequence: mean of each sequence's mean, as the paper; token: all tokens alike."""


@dataclass(frozen=True)
class PairOptions:
    """Numbers of the methods that learn from pairs."""

    beta: Annotated[float | None, tyro.conf.arg(help=_number_help("beta"), metavar="FLOAT")] = None
    margin: Annotated[float | None, tyro.conf.arg(help=_number_help("margin"), metavar="FLOAT")] = None


@dataclass(frozen=True)
class NumberOptions:
    """Other numbers of methods."""

    method_numbers: tuple[str, ...] = ()
    """Numbers of the method that have no option of their own in a recipe, as NAME=VALUE."""


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters instead of all weights."""

    lora_r: int = 0
    """Rank; 0 trains all weights."""
    lora_alpha: int = 16
    """Scale of the adapters, over the rank."""
    lora_dropout: float = 0.0
    """Dropout of the adapters."""
    lora_target_modules: str = "all-linear"
    """Modules that get adapters, separated by commas."""
    load_in_4bit: Flag = False
    """Load the model in 4-bit NF4 (QLoRA; needs bitsandbytes)."""


@takes_former_names(NEW_NAMES)
@dataclass(frozen=True)
class TrainSettings(LoraOptions, NumberOptions, PairOptions, IFTOptions, TrainingOptions, DataOptions, RunOptions):
    """All choices of a run; a bad one raises `ValueError` with its name and what is allowed."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if get_origin(hint) is Literal and value not in get_args(hint):
                raise ValueError(f"{name} must be one of {', '.join(get_args(hint))}; got {value!r}")
            kinds, words = _KINDS.get(hint, (object, ""))
            if not isinstance(value, kinds) or (isinstance(value, bool) and hint in (int, float)):
                raise ValueError(f"{name} must be {words}, got {value!r}")
        object.__setattr__(self, "method", require_trainable(self.method))
        for name in ("max_length", "max_prompt_length", "batch_size", "per_device_train_batch_size", "devices",
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
        for name in ("lam_jitter", "weight_decay", "warmup_steps", "max_grad_norm", "lora_r", "seed"):
            self._require(name, 0 <= getattr(self, name) < float("inf"), "0 or more")
        self._require("lora_dropout", 0 <= self.lora_dropout < 1, "in [0, 1)")
        self._require("num_train_epochs", 0 < self.num_train_epochs < float("inf"), "above 0")
        self._require(
            "max_prompt_length", self.max_prompt_length < self.max_length, f"below max_length {self.max_length}"
        )
        self._require("dataset", bool(self.dataset), "at least one name")
        self._require("load_in_4bit", not self.load_in_4bit or self.lora_r > 0, "off unless lora_r is above 0")
        self._require("packing", not self.packing or not self.learns_from_pairs, f"off with {self.method}")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)}")

    @property
    def learns_from_pairs(self) -> bool:
        return METHODS[self.method].learns_from == "pairs"

    @property
    def numbers(self) -> dict[str, float]:
        """The method's own numbers by name: as given, else the method's default for language models."""
        other = self._other_numbers()
        given = {number: getattr(self, number.name, other.get(number.name)) for number in METHODS[self.method].numbers}
        return {number.name: number.text if value is None else value for number, value in given.items()}

    def _other_numbers(self) -> dict[str, float]:
        """What `method_numbers` gives, by name."""
        known = {number.name: number for number in METHODS[self.method].numbers}
        values: dict[str, float] = {}
        for text in self.method_numbers:
            name, _, value = text.partition("=")
            if name not in known:
                raise ValueError(
                    f"method_numbers: {self.method} has no number {name!r} (it has: {', '.join(known) or 'none'})"
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

    run: RunOptions = field(default_factory=RunOptions)
    data: DataOptions = field(default_factory=DataOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    ift: IFTOptions = field(default_factory=IFTOptions)
    pairs: PairOptions = field(default_factory=PairOptions)
    numbers: NumberOptions = field(default_factory=NumberOptions)
    lora: LoraOptions = field(default_factory=LoraOptions)

    def settings(self) -> TrainSettings:
        """All of them as one value; raises `ValueError` for a bad one."""
        given = {name: value for group in vars(self).values() for name, value in vars(group).items()}
        known = {each.name for each in fields(TrainSettings)}
        words = tuple(f"{name}={value!r}" for name, value in given.items() if name not in known and value is not None)
        return TrainSettings(
            **{name: value for name, value in given.items() if name in known}
            | {"method_numbers": (*given["method_numbers"], *words)}
        )


def groups_type() -> type[Groups]:
    """`Groups` with what the methods that are known by now add: their names in the help, and their own numbers."""
    taken = {each.name for each in fields(TrainSettings)}
    own = [METHODS[name] for name in trainable() if name not in TRL_LOSSES]
    names = dict.fromkeys(number.name for method in own for number in method.numbers if number.name not in taken)
    options = [
        (name, Annotated[float | None, tyro.conf.arg(help=_number_help(name), metavar="FLOAT")], field(default=None))
        for name in names
    ]
    numbers = make_dataclass("Numbers", options, bases=(NumberOptions,), frozen=True)
    numbers.__doc__ = NumberOptions.__doc__
    help_of_method = f"One of {', '.join(trainable())}, or FILE.py:NAME for one of your own (docs/add-a-method.md)."
    hint = Annotated[str, tyro.conf.arg(help=help_of_method)]
    run = make_dataclass("Run", [("method", hint, field(default=RunOptions.method))], bases=(RunOptions,), frozen=True)
    run.__doc__ = RunOptions.__doc__
    added = [("run", run, field(default_factory=run)), ("numbers", numbers, field(default_factory=numbers))]
    return make_dataclass("Groups", added, bases=(Groups,), frozen=True)
