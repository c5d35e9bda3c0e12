"""The drop-in for TRL: `IFTConfig` and `IFTTrainer`, and what they stand on; knows no command."""
