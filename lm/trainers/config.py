"""`IFTConfig`: TRL's `SFTConfig` with the options of Intuitive Fine-Tuning."""

from dataclasses import dataclass, field
from typing import Literal, get_args, get_type_hints

from trl import SFTConfig

import ift
from common.renamed import takes_former_names
from ift.propagation import Norm, Side, Source
from ift.targets import GAMMA, LAM
from lm.trainers.names import NEW_NAMES


@takes_former_names(NEW_NAMES)
@dataclass
class IFTConfig(SFTConfig):
    """TRL's `SFTConfig` with the options of Intuitive Fine-Tuning (arXiv 2405.11870); defaults as its authors released.

    λ = 0 with γ = 0 is plain SFT, at its cost. Evaluation reports SFT's loss: a number that methods share.
    """

    residual: Literal["mixed", "replaced"] = field(
        default="mixed",
        metadata={
            "help": "mixed: a state has a share λ of the prediction, as in IFT; replaced: with probability λ it is the "
            "prediction, as in scheduled sampling."
        },
    )
    lam: float = field(
        default=LAM.text, metadata={"help": "λ in [0, 1]: share of the model's own prediction in a state."}
    )
    min_lam: float | None = field(
        default=None, metadata={"help": "λ at step 0; it rises to lam over the learning-rate warm-up. None: constant."}
    )
    lam_jitter: float = field(default=0.0, metadata={"help": "Standard deviation of the noise on λ, relative to λ."})
    gamma: float = field(default=GAMMA.text, metadata={"help": "γ in [0, 1] of the relation propagation; 0 is none."})
    form: Literal["product", "sum"] = field(
        default="product", metadata={"help": "product: as the released code; sum: the paper's equation."}
    )
    source: Source = field(default="loss", metadata={"help": "What product sums along the answer."})
    norm: Norm = field(default="L1", metadata={"help": "How product normalises its weights."})
    side: Side = field(
        default="left", metadata={"help": "Whether product sums over later (left) or earlier (right) tokens."}
    )
    prediction: Literal["greedy", "sampled", "expected", "lagged"] = field(
        default="greedy",
        metadata={
            "help": "Which token the model is taken to say: arg-max, a sample, the top k by probability, or what it "
            "said in the previous epoch (lagged: no extra pass after the first epoch)."
        },
    )
    first_predictions: str = field(
        default="fresh",
        metadata={
            "help": "Where lagged predictions of the first epoch come from. fresh: from an extra pass; none: nothing "
            "is mixed before the second epoch, for the cost of SFT; or a checkpoint of an earlier run on the same data."
        },
    )
    prediction_top_k: int = field(default=8, metadata={"help": "Tokens of prediction=expected."})
    loss_average: Literal["sequence", "token"] = field(
        default="sequence", metadata={"help": "sequence: mean of each sequence's mean, as the paper; token: all alike."}
    )
    freeze_mixed_embedding: bool = field(
        default=False, metadata={"help": "Keep gradients from the input embedding, as the released code does."}
    )

    def __post_init__(self) -> None:
        hints = get_type_hints(IFTConfig)
        for name in ("residual", "form", "source", "norm", "side", "prediction", "loss_average"):
            allowed = get_args(hints[name])
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must lie in [0, 1], got {self.gamma}")
        if self.prediction == "lagged" and (self.packing or self.padding_free):
            raise ValueError("prediction='lagged' needs one example per row: packing and padding_free must be off")
        if self.label_smoothing_factor:
            raise ValueError(f"label_smoothing_factor must be 0 with IFT, got {self.label_smoothing_factor}")
        if self.prediction_top_k < 1:
            raise ValueError(f"prediction_top_k must be at least 1, got {self.prediction_top_k}")
        ift.lam_at(0, self.lam, min_lam=self.min_lam, jitter=self.lam_jitter)  # raises by name
        super().__post_init__()
