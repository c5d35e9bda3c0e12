"""Language models: the core's loss inside TRL's trainer, `IFTTrainer(model, args=IFTConfig(…), train_dataset=…)`."""

from lm.trainers.config import IFTConfig
from lm.trainers.ift import IFTTrainer

__all__ = ["IFTConfig", "IFTTrainer"]
