"""Your own data with the drop-in: a JSON Lines file of prompts and completions, a small model, IFT in TRL's trainer."""

import json
import tempfile
from pathlib import Path

from datasets import load_dataset

from lm import IFTConfig, IFTTrainer
from lm.lake.base import make_model  # a tiny Mistral; any causal model and its tokenizer work
from lm.lake.words import make_tokenizer

folder = Path(tempfile.mkdtemp())
rows = [{"prompt": "S F F G", "completion": " right right right"}, {"prompt": "G F S F", "completion": " left left"}]
(folder / "own.jsonl").write_text("\n".join(json.dumps(row) for row in rows * 8))

tokenizer = make_tokenizer()
trainer = IFTTrainer(
    make_model(tokenizer, seed=0),
    args=IFTConfig(
        output_dir=str(folder / "out"), lam=0.2, gamma=0.95, num_train_epochs=2, per_device_train_batch_size=4,
        learning_rate=1e-3, use_cpu=True, bf16=False, report_to="none", logging_steps=2, disable_tqdm=True,
    ),
    train_dataset=load_dataset("json", data_files=str(folder / "own.jsonl"), split="train"),
    processing_class=tokenizer,
)  # fmt: skip
trainer.train()
trainer.save_model(str(folder / "model"))
print(f"The model is in {folder / 'model'}.")
