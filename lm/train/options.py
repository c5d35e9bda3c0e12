"""The options of `python -m lm.train`, in the groups that `--help` shows; light, as it is read before anything else.

Names that TRL has are TRL's, and go to its configuration as they are.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from ift import METHODS
from ift.propagation import Norm, Side, Source
from lm.train.trainable import trainable

Flag = tyro.conf.FlagCreatePairsOff[bool]


def number_help(name: str) -> str:
    """What a number is, with each method that has it and its default there."""
    methods = [METHODS[method] for method in trainable() if any(name == each.name for each in METHODS[method].numbers)]
    by_default: dict[float, list[str]] = {}
    for method in methods:
        by_default.setdefault(method.number(name).text, []).append(method.name)
    defaults = "; ".join(f"{value:g} for {', '.join(names)}" for value, names in by_default.items())
    return f"{methods[0].number(name).sentence}; if it is not given, {defaults}."


@dataclass(frozen=True)
class RunOptions:
    """What is trained, and where it goes."""

    method: str = "ift"
    model: str = "tiny-lake"
    """Hub name, local folder, .gguf file, or tiny-lake: a Mistral of 0.8M parameters that is trained here, once."""
    output_dir: Annotated[str | None, tyro.conf.arg(aliases=["--out"])] = None
    """Folder for the model, checkpoints and logs; results/lm-METHOD-MODEL-DIGEST if not given."""
    resume: Flag = False
    """Continue from the newest whole checkpoint in the folder."""
    overwrite: Flag = False
    """Write into a folder that holds another run; its files are removed."""
    dry_run: Flag = False
    """Print size, tokens per step, memory and time, and stop."""
    devices: int = 1
    """Devices that --dry-run counts on; a run takes what it is launched on."""
    seed: int = 0
    """Seed of the data order, the draws from data sets and new weights."""
    seeds: tuple[int, ...] = ()
    """Several seeds in place of one: a run for each in a folder of its own, and a table of their held-out losses."""
    trust_remote_code: Flag = False
    """Run code that comes with the model from the Hub."""


@dataclass(frozen=True)
class DataOptions:
    """The data; methods that learn from targets take the chosen answers of pairs."""

    dataset: tuple[str, ...] = ("lake:512",)
    """NAME, NAME:ROWS, NAME@SPLIT or NAME@SPLIT:ROWS each, with *SHARE behind it for its share of the mix: lake,
    lake-english, lake-slippery, lake-slippery-english, lake-base, ultrachat, ultrafeedback, a Hub name, a local file
    (.jsonl, .json, .csv, .tsv, .parquet, also .gz, .zst or .bz2)."""
    eval_dataset: tuple[str, ...] = ()
    """The same, for the loss before and after; the lake has its own held-out maps."""
    max_length: int = 1024
    """Tokens of prompt and answer; an answer that goes beyond loses its end."""
    max_prompt_length: int | None = None
    """Tokens of the prompt; a longer one loses its beginning. If not given, 512 or half of max_length."""
    columns: tuple[str, ...] = ()
    """OURS=THEIRS each, for data in no known layout: prompt=question completion=solution. OURS is prompt, completion,
    chosen, rejected, label, messages, text, system or tools."""
    packing: Flag = False
    """Put several examples in a row, with methods that learn from targets."""
    chat_template: str = "auto"
    """auto: the tokenizer's, zephyr if it has none; zephyr; none: prompt and answer as they are; or a .jinja file."""


@dataclass(frozen=True)
class TrainingOptions:
    """The updates; names are TRL's where it has one."""

    num_train_epochs: float = 3.0
    """Passes over the data."""
    # The other spellings are those of `python -m toy.frozenlake`.
    max_steps: Annotated[int, tyro.conf.arg(aliases=["--steps"])] = -1
    """Updates, if above 0: then epochs do not count."""
    learning_rate: Annotated[float | None, tyro.conf.arg(aliases=["--lr"])] = None
    """Step size; if not given, TRL's for the method, ten times that for LoRA, 1e-3 for tiny-lake."""
    batch_size: int = 32
    """Sequences (or pairs) per update, over all devices; accumulation follows from it."""
    per_device_train_batch_size: int = 8
    """Sequences (or pairs) that a device holds at a time."""
    optim: Annotated[str, tyro.conf.arg(aliases=["--optimizer"])] = "adamw_torch"
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
    """Where else to log, separated by commas: tensorboard, wandb, trackio, …"""
    neftune_noise_alpha: float = 0.0
    """Noise on the input embeddings (NEFTune), often 5; 0 is none."""
    attention: str = "auto"
    """Attention of transformers: sdpa, eager, flash_attention_2, …; auto: the best that the model has."""
    trainer: tuple[str, ...] = ()
    """Any other option of TRL's configuration, as NAME=VALUE."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Evaluations on held-out data; they need --eval-dataset, and the lake has its own held-out maps."""

    eval_steps: int = 0
    """Updates between evaluations; 0 evaluates before and after the training only."""
    keep: Literal["last", "best"] = "last"
    """Which model is written at the end: the last one, or the one of the lowest held-out loss. With best there is a
    checkpoint at each evaluation."""
    early_stopping: int = 0
    """Evaluations in a row without a lower held-out loss after which the training stops; 0 never stops early."""
    eval_answers: int = 0
    """At each evaluation, the greedy answers to this many held-out prompts: on the console and in answers.jsonl."""


@dataclass(frozen=True)
class IFTOptions:
    """Intuitive fine-tuning; defaults as its authors released."""

    lam: Annotated[float | None, tyro.conf.arg(help=number_help("lam"), metavar="FLOAT")] = None
    min_lam: float | None = None
    """λ at step 0; it rises to lam over the warm-up. Constant if not given."""
    lam_jitter: float = 0.0
    """Standard deviation of the noise on λ, relative to λ."""
    gamma: Annotated[float | None, tyro.conf.arg(help=number_help("gamma"), metavar="FLOAT")] = None
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
    first_predictions: str = "fresh"
    """Where lagged predictions of the first epoch come from. fresh: an extra pass; none: nothing is mixed before the
    second epoch, for the cost of SFT; or the folder of a checkpoint of an earlier lagged run on the same data."""
    prediction_top_k: int = 8
    """Tokens of `expected`."""
    loss_average: Literal["sequence", "token"] = "sequence"
    """sequence: mean of each sequence's mean, as the paper; token: all tokens alike."""


@dataclass(frozen=True)
class PairOptions:
    """Numbers of the methods that learn from pairs."""

    beta: Annotated[float | None, tyro.conf.arg(help=number_help("beta"), metavar="FLOAT")] = None
    margin: Annotated[float | None, tyro.conf.arg(help=number_help("margin"), metavar="FLOAT")] = None


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
    use_dora: Flag = False
    """Weight-decomposed adapters (DoRA)."""
    use_rslora: Flag = False
    """Scale the adapters by alpha over the root of the rank (rsLoRA)."""
    modules_to_save: str = ""
    """Modules that are trained as a whole beside the adapters, separated by commas, such as embed_tokens,lm_head."""
    adapter: Literal["continue", "new"] = "continue"
    """Where --model is an adapter: continue trains that adapter further; new merges it into its base, writes that to
    base/ in the run's folder, and trains a new adapter on it. Without --lora-r it is merged and all weights are
    trained."""
    load_in_4bit: Flag = False
    """Load the model in 4-bit NF4 (QLoRA; needs bitsandbytes)."""


@dataclass(frozen=True)
class FileOptions:
    """Options from files and to files."""

    config: tuple[str, ...] = ()
    """YAML files with options, such as a run's config.yaml; later ones win, and the command line wins over all."""
    print_config: Flag = False
    """Print all options as such a file, and stop."""
