"""python -m lm.pairs: the rejected answer is the model's own, a stop changes nothing, what cannot be is one line."""

import json
import sys
import types

import pytest

from lm.pairs import __main__ as pairs
from lm.pairs import making, sampling
from lm.pairs.options import Options
from lm.pairs.scoring import Answer, same_number, scorer_of
from lm.train import data
from tests.calling import exit_code

PROMPT = [{"role": "user", "content": "1+1="}]


def call(monkeypatch, *arguments):
    return exit_code(pairs.main, monkeypatch, arguments)


@pytest.fixture
def command(saved_model, jsonl, tmp_path):
    return ["--model", saved_model, "--dataset", f"{jsonl}:10", "--chat-template", "none", "--max-new-tokens", 4,
            "--batch-size", 4, "--samples", 3, "--out", tmp_path / "pairs.jsonl"]  # fmt: skip


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_pairs_of_the_models_own_answers_are_what_lm_train_reads(command, sums, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, *command) == 0
    out = tmp_path / "pairs.jsonl"
    rows = rows_of(out)
    assert f"{len(rows)} pairs of 10 prompts" in capsys.readouterr().out
    right = dict(zip(sums["prompt"], sums["completion"], strict=True))
    for row in rows:
        assert row["chosen"][0]["content"] == right[row["prompt"][0]["content"]]
        assert row["rejected"][0]["content"] != row["chosen"][0]["content"]
    loaded = data.load((str(out),), True, 0).to_list()
    assert len(loaded) == len(rows) > 5
    assert set(loaded[0]) == {"prompt", "chosen", "rejected"}
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_stopped_run_goes_on_to_the_same_file(command, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, *command) == 0
    out = tmp_path / "pairs.jsonl"
    whole = out.read_bytes()
    out.unlink()
    original, calls = sampling._transformers, []

    def stopping(options, tokenizer):
        sample = original(options, tokenizer)

        def counted(prompts, seed):
            calls.append(seed)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return sample(prompts, seed)

        return counted

    monkeypatch.setattr(sampling, "_transformers", stopping)
    assert call(monkeypatch, *command) == 130
    assert "goes on where it was" in capsys.readouterr().err
    assert not out.exists()
    work = tmp_path / ".pairs.jsonl.work"
    begun = work.read_text()
    work.write_text(begun.rsplit("\n", 2)[0] + '\n{"prompt": [cut')  # killed while it wrote
    assert call(monkeypatch, *command, "--seed", "5") == 2
    assert "is of a run with other options: delete it" in capsys.readouterr().err
    assert call(monkeypatch, *command) == 0
    assert out.read_bytes() == whole
    assert calls == [0, 4, 0, 4, 8]
    for length in (0, 12):  # stopped at the first write
        out.unlink()
        work.write_text(begun[:length])
        assert call(monkeypatch, *command) == 0
        assert out.read_bytes() == whole
    work.write_text("{}\n")  # killed when it was done
    assert call(monkeypatch, *command) == 2
    assert "exists already" in capsys.readouterr().err
    assert not work.exists()


def test_where_no_prompt_gives_a_pair_nothing_is_left(command, tmp_path, monkeypatch, capsys):
    one = [*command, "--samples", 1, "--scorer", "number", "--chosen", "best"]
    assert call(monkeypatch, *one) == 2
    assert "gives no pair: all samples have the same score" in capsys.readouterr().err
    assert list(tmp_path.glob("*pairs*")) == []
    assert call(monkeypatch, *command) == 0  # other options are not refused for the sake of that run


def test_tools_that_the_template_leaves_out_are_refused(command, tmp_path, monkeypatch, capsys):
    file = tmp_path / "tools.jsonl"
    row = {"prompt": "1+1=", "completion": "2", "tools": [{"type": "function", "function": {"name": "add"}}]}
    file.write_text(f"{json.dumps(row)}\n" * 2)
    assert call(monkeypatch, *command, "--dataset", file) == 2
    assert "tools.jsonl': the chat template leaves the column tools out of 2 of 2 rows" in capsys.readouterr().err


def test_no_link_is_followed_to_another_file(command, tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("")
    (tmp_path / ".pairs.jsonl.work").symlink_to(tmp_path / "mine")
    assert call(monkeypatch, *command) == 2
    assert (tmp_path / "mine").read_text() == ""


@pytest.mark.parametrize(
    ("text", "target", "same"),
    [("so 1,200", "#### 1200.0", True), ("7 8", "7", False), ("none", "7", False), ("-3", "3", False)],
)
def test_answers_are_compared_by_their_last_number(text, target, same):
    assert same_number(text, target) == same


def score_by(*scores):
    return lambda answers: list(scores)[: len(answers)]


@pytest.mark.parametrize(
    ("texts", "scores", "best", "expected"),
    [
        (["3", "4"], (1.0, 0.0, 2.0), False, ("2", "4")),
        (["3", "4"], (3.0, 2.5, 2.0), False, None),  # no sample is worse than the target
        (["3", "4", "5"], (1.0, 0.0, 2.0), True, ("5", "4")),
        (["3", "3", "3"], (1.0,), True, None),
        (["", ""], (), False, None),
    ],
)
def test_the_worst_sample_is_rejected(texts, scores, best, expected):
    pair = making._pair(PROMPT, texts, [{"role": "assistant", "content": "2"}], score_by(*scores), best)
    found = None if pair is None else (pair["chosen"][0]["content"], pair["rejected"][0]["content"])
    assert found == expected


ANSWERS = [Answer(PROMPT, "2", "2"), Answer(PROMPT, "three", "2")]


def test_a_command_scores(tmp_path):
    program = tmp_path / "judge.py"
    program.write_text("import json, sys\nfor line in sys.stdin:\n    print(len(json.loads(line)['answer']))\n")
    options = Options("d", tmp_path / "p.jsonl", scorer="command", score_command=f"{sys.executable} {program}")
    assert scorer_of(options)(ANSWERS) == [1.0, 5.0]
    for code, message in (("exit(3)", "ended with 3"), ("print('x')", "must print a number"), ("", "for each of 2")):
        program.write_text(code)
        with pytest.raises(ValueError, match=message):
            scorer_of(options)(ANSWERS)


def test_a_reward_model_scores(tokenizer, tmp_path):
    from transformers import MistralConfig, MistralForSequenceClassification

    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_labels=1, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = MistralForSequenceClassification(config)
    model.save_pretrained(tmp_path / "reward")
    tokenizer.save_pretrained(tmp_path / "reward")
    options = Options("d", tmp_path / "p.jsonl", scorer="reward", reward_model=str(tmp_path / "reward"))
    ids = tokenizer("1+1=\n2", return_tensors="pt")["input_ids"]
    scores = scorer_of(options)(ANSWERS)
    assert scores[0] == pytest.approx(model(ids).logits.item(), abs=1e-5)
    assert scores[0] != scores[1]


def test_vllm_is_asked_where_it_is_installed(tokenizer, saved_model, tmp_path, monkeypatch):
    """What is asked of vLLM's documented interface; vLLM itself needs a GPU."""
    asked = []

    class LLM:
        def __init__(self, model, seed):
            asked.append(model)

        def generate(self, prompts, how, use_tqdm):
            answer = types.SimpleNamespace(text=" 7 ")
            return [types.SimpleNamespace(outputs=[answer] * how["n"]) for _ in prompts]

    fake = types.SimpleNamespace(LLM=LLM, SamplingParams=dict, __spec__=types.SimpleNamespace())
    options = Options("d", tmp_path / "p.jsonl", model=str(saved_model), engine="vllm", samples=2)
    with pytest.raises(ValueError, match="engine vllm needs a package that is not installed: pip install vllm"):
        sampling.sampler_of(options, tokenizer)
    monkeypatch.setitem(sys.modules, "vllm", fake)
    assert sampling.sampler_of(options, tokenizer)([[3], [4]], 0) == [["7", "7"], ["7", "7"]]
    assert asked == [str(saved_model)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "pairs.csv"], "out must end in .jsonl"),
        (["--samples", "0"], "samples must be at least 1"),
        (["--temperature", "1e400"], "temperature must be a finite number of at least 0.01"),
        (["--seed", "99999999999999999999"], "seed must be in"),
        (["--chosen", "best"], "chosen must be target without a scorer"),
        (["--scorer", "reward"], "reward_model must be given with scorer reward"),
        (["--score-command", "x"], "score_command must be given with scorer command, and with no other"),
        (["--scorer", "command", "--score-command", "nowhere-at-all"], "score_command 'nowhere-at-all' cannot be run"),
        (["--dataset", "nowhere.jsonl"], "there is no such file"),
        (["--model", "./nowhere"], "model './nowhere': there is no such folder"),
    ],
)
def test_bad_input_is_one_line(arguments, message, command, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, *command, *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not list(tmp_path.glob("*pairs.jsonl*"))
