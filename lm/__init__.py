"""Language models: the core's loss inside TRL's trainer, `IFTTrainer(model, args=IFTConfig(…), train_dataset=…)`."""

from lm.config import IFTConfig
from lm.trainer import IFTTrainer

__all__ = ["IFTConfig", "IFTTrainer"]
