"""Language models: the core's loss inside TRL's trainer, `IFTTrainer(model, args=IFTConfig(…), train_dataset=…)`."""

from lm.trainer import IFTConfig, IFTTrainer

__all__ = ["IFTConfig", "IFTTrainer"]
