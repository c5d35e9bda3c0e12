"""`python -m lm.evaluate`: what the harness reports, beside plain loops; resuming; bad input."""

import json
import pickle
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from lm_eval.api.model import hash_args
from lm_eval.models.huggingface import HFLM

from common.models import load_trained, save_whole
from lm.evaluate import __main__ as command
from lm.evaluate import harness
from lm.evaluate.harness import Questions, described
from tests.calling import exit_code

TASKS = Path(command.__file__).parents[1] / "tasks"
GSM8K = TASKS / "gsm8k_files" / "gsm8k_files.yaml"


class Trap:
    """What runs code where it is unpickled."""

    def __init__(self, code):
        self.code = code

    def __reduce__(self):
        return exec, (self.code,)


def call(monkeypatch, *arguments):
    return exit_code(command.main, monkeypatch, arguments)


def local(monkeypatch, model, gsm8k, out, *more):
    return call(monkeypatch, "--model", model, "--suite", "local", "--task", GSM8K, "--task-options",
                f"folder={gsm8k}", "--out", out, "--max-new-tokens", 32, *more)  # fmt: skip


def test_the_harness_and_a_plain_loop_agree(parrot, gsm8k, exact_match, tmp_path, monkeypatch, capsys):
    assert local(monkeypatch, parrot, gsm8k, tmp_path / "out", "--fewshot", 0, "--log-samples") == 0
    assert str(TASKS) not in (tmp_path / "out" / "results.json").read_text()  # nor any path but the task's options
    scores = json.loads((tmp_path / "out" / "results.json").read_text())["results"]["gsm8k_files"]
    model, tokenizer = load_trained(str(parrot))
    plain = exact_match(model, tokenizer, (gsm8k / "test.jsonl").read_text().splitlines(), 32)
    assert scores["exact_match,last-number"] == sum(plain) / len(plain) == pytest.approx(5 / 12)
    assert scores["exact_match,strict"] == pytest.approx(5 / 12)
    assert scores["exact_match_stderr,strict"] == pytest.approx((5 / 12 * 7 / 12 / 11) ** 0.5)
    assert "0.4167" in capsys.readouterr().out


def test_examples_come_from_the_training_file_as_turns_of_the_chat(parrot, gsm8k, tmp_path, monkeypatch):
    assert local(monkeypatch, parrot, gsm8k, tmp_path / "out", "--limit", 2, "--log-samples") == 0
    sample = harness.samples_of(tmp_path / "out", "gsm8k_files")[0]
    prompt = sample["arguments"][0][0]
    assert prompt.count("<|user|>") == 6  # five examples and the question
    assert prompt.count("Count them.\n#### 7<eos>") == 5
    assert prompt.endswith("<|assistant|>\n")
    assert local(monkeypatch, parrot, gsm8k, tmp_path / "plain", "--limit", 2, "--log-samples", "--plain") == 0
    assert "<|user|>" not in harness.samples_of(tmp_path / "plain", "gsm8k_files")[0]["arguments"][0][0]


def test_a_stopped_evaluation_goes_on_and_asks_nothing_twice(parrot, gsm8k, tmp_path, monkeypatch, capsys):
    asked, generate = [], HFLM._model_generate

    def counted(self, context, **options):
        if len(asked) == 5 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        asked.append(len(context))
        return generate(self, context, **options)

    monkeypatch.setattr(HFLM, "_model_generate", counted)
    options = (parrot, gsm8k, tmp_path / "out", "--fewshot", 0, "--batch-size", 1)
    assert local(monkeypatch, *options) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()
    assert local(monkeypatch, *options) == 0
    assert asked == [1] * 12
    assert local(monkeypatch, *options) == 0  # finished: nothing is asked at all
    assert len(asked) == 12
    scores = json.loads((tmp_path / "out" / "results.json").read_text())["results"]["gsm8k_files"]
    assert scores["exact_match,strict"] == pytest.approx(5 / 12)


def test_a_stopped_evaluation_ends_with_the_bytes_of_one_that_was_not(parrot, hub, tmp_path, monkeypatch):
    """Also where the stop came within a batch, or cut the last line of what was kept."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    asked = ("--model", parrot, "--benchmarks", "ARC", "GSM8K", "--limit", 4, "--batch-size", 3, "--log-samples",
             "--max-new-tokens", 8)  # fmt: skip
    assert call(monkeypatch, *asked, "--out", whole) == 0
    answers = (whole / "answers.jsonl").read_bytes()
    for share in (0.1, 0.7):
        shutil.copytree(whole, stopped, dirs_exist_ok=True)
        for name in ("results.json", *(path.name for path in whole.glob("samples_*"))):
            (stopped / name).unlink()
        (stopped / "answers.jsonl").write_bytes(answers[: int(share * len(answers))])
        assert call(monkeypatch, *asked, "--out", stopped) == 0
        for file in whole.iterdir():
            assert (stopped / file.name).read_bytes() == file.read_bytes(), file.name


def test_nothing_that_a_folder_of_results_holds_is_run(parrot, gsm8k, tmp_path, monkeypatch):
    """The harness keeps answers as pickles: a folder from somebody else may hold any."""
    options = (parrot, gsm8k, tmp_path / "out", "--limit", 2, "--log-samples")
    assert local(monkeypatch, *options) == 0
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".jsonl"}
    code = f"import pathlib; pathlib.Path({str(tmp_path / 'was-run')!r}).touch()"
    trap = pickle.dumps(Trap(code))  # planted, as a stranger would: what the test is about is that it is not read
    with sqlite3.connect(tmp_path / "out" / "answers_rank0.db") as database:
        database.execute("CREATE TABLE unnamed (key TEXT PRIMARY KEY, value BLOB)")
        samples = harness.samples_of(tmp_path / "out", "gsm8k_files")
        keys = {hash_args("generate_until", sample["arguments"][0]) for sample in samples}
        database.executemany("INSERT INTO unnamed VALUES (?, ?)", [(key, trap) for key in keys])
    (tmp_path / "out" / "results.json").unlink()
    (tmp_path / "out" / "answers.jsonl").unlink()
    assert local(monkeypatch, *options) == 0
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("text", ["null", "[]", "{}", '{"configs": {}', '{"configs": 3}', "[" * 100_000])
def test_spoiled_results_are_named(text, parrot, gsm8k, tmp_path, monkeypatch, capsys):
    options = (parrot, gsm8k, tmp_path / "out", "--limit", 1)
    assert local(monkeypatch, *options) == 0
    (tmp_path / "out" / "results.json").write_text(text)
    capsys.readouterr()
    assert local(monkeypatch, *options) == 2
    assert "results.json' cannot be read: delete it, and it is made again" in capsys.readouterr().err
    (tmp_path / "out" / "results.json").unlink()
    (tmp_path / "out" / "answers.jsonl").write_text('["mine"]\n')
    assert local(monkeypatch, *options) == 2
    assert "answers.jsonl' cannot be read" in capsys.readouterr().err


def test_results_of_another_model_are_not_taken_for_this_one(parrot, gsm8k, tmp_path, monkeypatch, capsys):
    """Not even if it has the same name: its weights count."""
    options = (gsm8k, tmp_path / "out", "--fewshot", 0, "--limit", 2)
    shutil.copytree(parrot, tmp_path / "model")
    assert local(monkeypatch, tmp_path / "model", *options) == 0
    shutil.copytree(parrot.parents[1] / "base", tmp_path / "model", dirs_exist_ok=True)
    assert local(monkeypatch, tmp_path / "model", *options) == 2
    assert "holds results of another model" in capsys.readouterr().err


def test_results_of_other_questions_are_not_taken_for_these(parrot, gsm8k, tmp_path, monkeypatch, capsys):
    """Files of questions count by what is in them."""
    shutil.copytree(gsm8k, tmp_path / "data")
    options = (parrot, tmp_path / "data", tmp_path / "out", "--fewshot", 0, "--limit", 2)
    assert described(Questions({}, options=("day=2024-01-01",)))["options"] == {"day": "2024-01-01"}  # no YAML date
    assert local(monkeypatch, *options) == 0
    (tmp_path / "data" / "more").mkdir()  # of use to another task's functions
    (tmp_path / "data" / "more" / "rows.txt").write_text("1")
    assert local(monkeypatch, *options) == 2
    assert "holds results of another questions.options.folder" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "data" / "more")
    assert local(monkeypatch, *options) == 0
    with (tmp_path / "data" / "test.jsonl").open("a") as file:
        file.write('{"question": "more", "answer": "#### 1"}\n')
    assert local(monkeypatch, *options) == 2
    assert "holds results of another questions.options.folder" in capsys.readouterr().err


def test_results_of_a_task_whose_functions_changed_are_not_taken_for_its_own(
    parrot, gsm8k, tmp_path, monkeypatch, capsys
):
    task = shutil.copytree(TASKS / "gsm8k_files", tmp_path / "task")
    options = ("--model", parrot, "--suite", "local", "--task", task / "gsm8k_files.yaml", "--task-options",
               f"folder={gsm8k}", "--out", tmp_path / "out", "--limit", 2, "--max-new-tokens", 8)  # fmt: skip
    assert call(monkeypatch, *options) == 0
    with (task / "utils.py").open("a") as functions:
        functions.write("# changed\n")
    assert call(monkeypatch, *options) == 2
    assert "holds results of another questions.file" in capsys.readouterr().err


def test_a_window_too_small_for_the_tasks_own_answers_is_said(saved_model, gsm8k, tmp_path, monkeypatch, capsys):
    options = ("--model", saved_model, "--suite", "local", "--task", GSM8K, "--task-options", f"folder={gsm8k}")
    assert call(monkeypatch, *options, "--out", tmp_path / "out") == 2
    assert "context of 128 tokens, and 256 is the task's own" in capsys.readouterr().err


def test_the_leaderboard_is_asked_with_its_shots_beside_the_papers_numbers(parrot, hub, tmp_path, monkeypatch, capsys):
    asked = ("--suite", "open-llm", "--log-samples", "--benchmarks", "ARC", "TruthfulQA", "WinoGrande", "GSM8K",
             "ARC-Gen", "--max-new-tokens", 16, "--limit", 4)  # fmt: skip
    assert call(monkeypatch, "--model", parrot, "--out", tmp_path / "a", *asked) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["n-shot"] == {"arc_challenge": 25, "truthfulqa_mc2": 0, "winogrande": 5, "gsm8k": 5, "arc_gen": 0}
    assert {"results", "configs", "versions", "n-shot", "config", "higher_is_better"} <= set(results)
    score = 100 * results["results"]["arc_challenge"]["acc_norm,none"]
    (arc,) = [line for line in printed.splitlines() if line.startswith("ARC ")]
    assert arc.split()[1:3] == ["25", f"{score:.2f}"]
    assert arc.split()[4:] == ["56.49", "61.86", "56.66", "56.74"]
    assert "secondary" in printed
    assert "average" not in printed  # MMLU is missing
    template = harness.samples_of(tmp_path / "a", "arc_gen")[0]["arguments"][0][0]
    assert "(A) ice\n(B) fire" in template
    assert template.startswith("<|system|>")
    texts = [context + rest for sample in harness.samples_of(tmp_path / "a", "arc_challenge")
             for context, rest in sample["arguments"]]  # fmt: skip
    cut = sum(len(text.encode()) > 1025 for text in texts)  # the model reads bytes, 1,024 of them at most
    assert results["cut_contexts"]["arc_challenge"] == cut > 0
    assert "truthfulqa_mc2" not in results["cut_contexts"]
    assert f"asked without their beginning: arc_challenge {cut}" in printed
    base = parrot.parents[1] / "base"
    assert call(monkeypatch, "--model", base, "--out", tmp_path / "b", *asked, "--against", tmp_path / "a") == 0
    printed = capsys.readouterr().out.split("Above ")[1]
    for task in ("arc_challenge", "truthfulqa_mc2", "winogrande", "gsm8k", "arc_gen"):
        assert task in printed


def test_a_comparison_with_a_model_without_template_says_so(parrot, gsm8k, tmp_path, monkeypatch, capsys):
    model, tokenizer = load_trained(str(parrot))
    tokenizer.chat_template = None
    save_whole(model, tokenizer, tmp_path / "bare")
    options = ("--fewshot", 0, "--limit", 2, "--log-samples")
    assert local(monkeypatch, parrot, gsm8k, tmp_path / "a", *options) == 0
    for model, said in ((tmp_path / "bare", True), (parrot, False)):
        assert local(monkeypatch, model, gsm8k, tmp_path / f"b{said}", *options, "--against", tmp_path / "a") == 0
        assert ("One of them was asked with its chat template" in capsys.readouterr().out) == said


@pytest.mark.slow
def test_all_of_the_leaderboard(parrot, mmlu, tmp_path, monkeypatch, capsys):
    asked = ("--model", parrot, "--out", tmp_path / "a", "--max-new-tokens", 8, "--limit", 2, "--log-samples")
    assert call(monkeypatch, *asked) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    shots = {name: count for name, count in results["n-shot"].items() if name.startswith("mmlu_")}
    assert len(shots) >= 57
    assert set(shots.values()) == {5}
    scores = [results["results"][task][metric] for task, metric in (
        ("arc_challenge", "acc_norm,none"), ("mmlu", "acc,none"), ("truthfulqa_mc2", "acc,none"),
        ("winogrande", "acc,none"), ("gsm8k", "exact_match,strict-match"))]  # fmt: skip
    (average,) = [line for line in printed.splitlines() if line.startswith("average")]
    assert f"{100 * np.mean(scores):.2f}" in average
    assert average.split()[-4:] == ["58.65", "58.28", "57.70", "59.61"]
    assert call(monkeypatch, *asked, "--against", tmp_path / "a") == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mmlu")]
    assert row.split()[2] == str(2 * 57)  # its subjects are one task; `shots` has its groups too


TASK = """
task: mine
dataset_path: json
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
test_split: test
"""


@pytest.mark.parametrize("field", ["task", "dataset_path", "output_type", "doc_to_text", "doc_to_target", "test_split"])
def test_a_task_file_that_lacks_a_field_is_named_with_it(field, tmp_path, monkeypatch, capsys):
    file = tmp_path / "task.yaml"
    file.write_text(re.sub(rf"(?m)^{field}:.*\n", "", TASK))
    assert call(monkeypatch, "--model", "tiny-lake", "--suite", "local", "--task", file) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"error: task '{re.escape(str(file))}' lacks [\w ]*{field}[\w ]*\n", error)


def test_bad_input_is_one_line_and_leaves_nothing(parrot, gsm8k, hub, tmp_path, monkeypatch, capsys):
    no_tokenizer, no_weights = tmp_path / "no-tokenizer", tmp_path / "no-weights"
    shutil.copytree(parrot, no_tokenizer, ignore=shutil.ignore_patterns("tokenizer*"))
    shutil.copytree(parrot, no_weights, ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "bad.yaml").write_text("task: [")
    (tmp_path / "text.yaml").write_text("words")
    here = ("--suite", "local", "--task", GSM8K)
    cases = [
        (("--model", no_tokenizer, *here, "--task-options", f"folder={gsm8k}"), "no-tokenizer"),
        (("--model", no_weights, *here, "--task-options", f"folder={gsm8k}"), "no-weights"),
        (("--model", tmp_path / "nowhere", *here, "--task-options", f"folder={gsm8k}"), "there is no such folder"),
        (("--model", parrot, *here), "task_options must name the folder"),
        (("--model", parrot, *here, "--task-options", "folder=nowhere"), "there is no train.jsonl"),
        (("--model", parrot, *here, "--task-options", "folder"), "task_options must be NAME=VALUE each"),
        (("--model", parrot, *here, "--task-options", "split=@test"), "task_options 'split=@test': its value is no"),
        (("--model", parrot, *here, "--fewshot", -1), "fewshot must be 0 or more"),
        (("--model", parrot, "--suite", "local"), "task must name a task file"),
        (("--model", parrot, "--suite", "local", "--task", tmp_path / "none.yaml"), "cannot be read"),
        (("--model", parrot, "--suite", "local", "--task", tmp_path / "bad.yaml"), "is no YAML"),
        (("--model", parrot, "--suite", "local", "--task", tmp_path / "text.yaml"), "holds no fields"),
        (("--model", parrot, *here, "--task-options", f"folder={gsm8k}", "--max-new-tokens", 1024), "context of 1024"),
        (("--model", parrot, "--limit", 0), "limit must be at least 1"),
        (("--model", parrot, "--benchmarks", "ARC", "HumanEval"), "benchmarks must be some of ARC, MMLU"),
        (("--model", parrot, "--suite", "alpaca-eval", "--instructions", tmp_path / "none.json"), "instructions"),
        (("--model", parrot, "--suite", "alpaca-eval", "--judge-timeout-seconds", 0), "judge_timeout_seconds must"),
    ]
    for arguments, message in cases:
        assert call(monkeypatch, *arguments, "--out", tmp_path / "out") == 2, arguments
        error = capsys.readouterr().err
        (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
        assert message in line
        assert "Traceback" not in error
        assert not (tmp_path / "out").exists()


def test_a_task_that_cannot_be_asked_is_one_line(parrot, gsm8k, tmp_path, monkeypatch, capsys):
    """Each beside one of the same name that can."""
    good = TASK.replace("dataset_path: json", f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: "
                        f"{gsm8k / 'test.jsonl'}}}}}")  # fmt: skip
    (tmp_path / "good.yaml").write_text(good)
    (tmp_path / "failing.py").write_text("def question(doc):\n    raise TypeError('the question is odd')\n")
    cases = [
        (good.replace("{{question}}", "{{quesion}}"), "'quesion' is undefined"),
        (good.replace('"{{answer}}"', "!function nowhere.answer"), "nowhere"),
        (good.replace(str(gsm8k), "/nowhere"), "could not be fetched"),
        (good.replace('"{{question}}"', "!function failing.question"), "TypeError: the question is odd"),
    ]
    for name, text, message in (
        ("cut", '{"question": "a", "answ', "line 1 is not JSON"),
        ("empty", "", "questions of mine cannot be read: a file is empty"),
    ):
        (tmp_path / f"{name}.jsonl").write_text(text)
        cases.append((good.replace(str(gsm8k / "test.jsonl"), str(tmp_path / f"{name}.jsonl")), message))
    for i, (text, message) in enumerate(cases):
        (tmp_path / f"{i}.yaml").write_text(text)
        options = ("--model", parrot, "--suite", "local", "--task", tmp_path / f"{i}.yaml", "--out", tmp_path / f"{i}")
        assert call(monkeypatch, *options, "--max-new-tokens", 8) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert message in line
    options = ("--model", parrot, "--suite", "local", "--task", tmp_path / "good.yaml", "--out", tmp_path / "good")
    assert call(monkeypatch, *options, "--max-new-tokens", 8) == 0


def test_a_comparison_needs_the_questions_of_both(parrot, gsm8k, tmp_path, monkeypatch, capfd):
    options = (parrot, gsm8k, tmp_path / "out", "--fewshot", 0, "--limit", 2)
    assert local(monkeypatch, *options, "--against", tmp_path) == 2
    assert "against needs --log-samples" in capfd.readouterr().err
    assert local(monkeypatch, *options, "--log-samples", "--against", tmp_path) == 2
    assert "holds no questions" in capfd.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert local(monkeypatch, *options, "--log-samples") == 0
    assert "fatal" not in capfd.readouterr().err  # the harness asks git for a commit where there is none
    with_examples = (parrot, gsm8k, tmp_path / "other", "--fewshot", 1, "--limit", 2, "--log-samples")
    assert local(monkeypatch, *with_examples, "--against", tmp_path / "out") == 2
    assert "examples of gsm8k_files was 0 there and is 1 here" in capfd.readouterr().err
    for name, text in (("results.json", '{"results": {'), ("samples_gsm8k_files.jsonl", "[]")):
        (tmp_path / "out" / name).write_text(text)
        third = (parrot, gsm8k, tmp_path / "third", "--fewshot", 0, "--limit", 2, "--log-samples")
        assert local(monkeypatch, *third, "--against", tmp_path / "out") == 2
        assert f"{name}' cannot be read" in capfd.readouterr().err
        assert not (tmp_path / "third").exists()  # said before hours of answering
