"""Task files of `--suite local`: what they may name, and what is said of those that cannot be asked."""

import shutil
from pathlib import Path

import jinja2
import pytest
from lm_eval import tasks as harness_tasks
from lm_eval import utils as harness_utils
from lm_eval.tasks._yaml_loader import load_yaml

from common.models import load_trained, save_whole
from lm.evaluate import __main__ as command
from lm.evaluate import harness
from lm.evaluate.task_file import task_in
from tests.calling import exit_code
from tests.lm.evaluate.conftest import write_rows

TASK = """task: mine
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
test_split: test
generation_kwargs: {max_gen_toks: 4, until: ["."]}
"""
SCRIPT = "from pathlib import Path\nPath('was-run').touch()\n"
REGEX = "filter_list: [{name: a, filter: [{function: regex, regex_pattern: '('}, {function: take_first}]}]\n"
SCORE = "metric_list: [{metric: ./evil.py, aggregation: mean, higher_is_better: true}]\n"
SHELL = "{{ cycler.__init__.__globals__.os.popen('touch was-run').read() }}"


@pytest.fixture
def ask(parrot, tmp_path, monkeypatch, capfd):
    """Evaluates a task of this text in a folder of its own: the exit code, and what is said on stderr."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"map {number}", "answer": "left"} for number in range(6)]
    write_rows(tmp_path / "questions.jsonl", rows)
    (tmp_path / "evil.py").write_text(SCRIPT)

    def asked(text, *more, model=parrot):
        (tmp_path / "task.yaml").write_text(text.replace("DATA", str(tmp_path / "questions.jsonl")))
        options = ("--model", model, "--suite", "local", "--task", "task.yaml", "--out", "out", "--log-samples", *more)
        return exit_code(command.main, monkeypatch, options), capfd.readouterr()

    return asked


def refused(ask, *arguments, **options):
    """The one line with which a task is refused; no code of it was run and nothing is left."""
    code, said = ask(*arguments, **options)
    assert code == 2
    (line,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in said.err
    assert not Path("out").exists()
    assert not Path("was-run").exists()
    return line


def changed(old, new):
    assert old in TASK
    return TASK.replace(old, new)


@pytest.mark.parametrize("field", ["doc_to_text", "doc_to_target", "description"])
def test_a_template_reaches_neither_python_nor_the_shell(field, ask):
    text = "".join(line for line in TASK.splitlines(keepends=True) if not line.startswith(field))
    line = refused(ask, f'{text}{field}: "{SHELL}"\n')
    assert "task.yaml' cannot be asked (SecurityError: " in line


def test_the_sandbox_renders_the_leaderboards_templates_as_the_harness_does():
    plain = jinja2.Environment(loader=jinja2.BaseLoader(), undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    plain.filters["regex_replace"] = harness_utils.regex_replace
    options = {"text": ["ice", "fire", "stone", "wind"], "label": ["A", "B", "C", "D"], "choices": ["Yes.", "No."]}
    doc = {"question": " What is cold? ", "answerKey": "B", "answer": "Add.\n#### 7\n", "mc1_targets": options,
           "mc2_targets": options, "instruction": "Say it.", "output": "It.", "prompt": "Go.",
           "completion": "left", "chosen": "left"}  # fmt: skip
    folders = {folder: Path(harness_tasks.__file__).parent / folder for folder in harness._FOLDERS.values()}
    rendered = 0
    for folder in (*folders.values(), *harness.TASKS.iterdir()):
        choices = options["text"] if folder == folders["mmlu/default"] else options
        for file in (*folder.glob("*.yaml"), *folder.glob("_*_yaml")):
            for text in load_yaml(file, resolve_func=False).values():
                if isinstance(text, str) and "{{" in text:
                    known = doc | {"choices": choices}
                    assert harness_utils.apply_template(text, known) == plain.from_string(text).render(**known)
                    rendered += 1
    assert rendered > 10


@pytest.mark.parametrize(
    "name", ["os.getcwd", "evil", "lm.evaluate.harness.task_in", "nowhere.f", "/tmp/evil.f", "[a]"]
)
def test_functions_are_those_of_python_files_beside_the_task(name, ask):
    line = refused(ask, changed('"{{question}}"', f"!function {name}"))
    assert "task 'task.yaml': !function must be NAME.FUNCTION with NAME.py in the task file's folder, got" in line


def test_functions_of_another_folder_are_refused_in_what_is_included(ask, tmp_path):
    write_rows(tmp_path / "sub" / "evil.py", [])
    (tmp_path / "sub" / "task.yaml").write_text("doc_to_text: !function evil.f\n")
    assert "sub/task.yaml': !function must be" in refused(ask, TASK + "include: sub/task.yaml\n")


def test_this_projects_own_task_files_name_functions_beside_them():
    assert {task_in(file) for file in harness.TASKS.glob("*/*.yaml")} >= {"arc_gen", "frozen_lake", "gsm8k_files"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TASK + "include: [a]\n", "a' cannot be read"),
        (TASK + "include: [5]\n", "'task.yaml': include must be the name of a file, or a list of names, got [5]"),
        (TASK + "include: task.yaml\n", "'task.yaml' includes itself (include: task.yaml)"),
        (TASK + "group: ours\n", "'task.yaml': it must describe one task, and no group"),
        (TASK + "num_fewshot: x\n", "'task.yaml': num_fewshot must be a whole number of 0 or more, got 'x'"),
        (TASK + "fewshot_config: {samples: 5}\n", "task.yaml' cannot be asked (Exception: "),
        (TASK + "metric_list: 5\n", "'task.yaml': metric_list must be a list of mappings with metric, got 5"),
        (TASK + SCORE, "'task.yaml': metric must be a score of the harness or a function in a Python file beside it"),
        (TASK + REGEX, "task.yaml' cannot be asked (error: missing )"),
        (changed("dataset_path: json", "dataset_path: evil.py"), "task.yaml' cannot be asked (RuntimeError: Dataset"),
        (changed("max_gen_toks: 4", "max_gen_toks: x"), "max_gen_toks must be a whole number of at least 1, got 'x'"),
        (changed("max_gen_toks: 4", "max_gen_toks: -4"), "max_gen_toks must be a whole number of at least 1, got -4"),
        (changed("max_gen_toks: 4", "temperature: x"), "'task.yaml': temperature must be a number, got 'x'"),
        (changed("max_gen_toks: 4", "num_beams: x"), "task.yaml' cannot be asked (TypeError: "),
        (changed('["."]', "5"), "'task.yaml': until must be text or a list of texts, got 5"),
        (changed('{max_gen_toks: 4, until: ["."]}', "5"), "'task.yaml': generation_kwargs must be a mapping, got 5"),
        (changed('"{{question}}"', "5"), "'task.yaml': doc_to_text must be text or a function, got 5"),
        (changed("generate_until", "multiple_choice"), "'task.yaml' lacks doc_to_choice"),
        (changed("task: mine", "task: ../../evil"), "'task.yaml': its name must be letters, digits"),
        (changed("task: mine", "task: /tmp/evil"), "'task.yaml': its name must be letters, digits"),
        (changed("task: mine", "task: [a, b]"), "'task.yaml': its name must be letters, digits"),
    ],
)
def test_a_field_that_does_not_fit_is_one_line_and_leaves_nothing(text, said, ask):
    assert said in refused(ask, text)


@pytest.mark.parametrize("content", ["null", '{"question": "a", "answer": "b"}\nnull\n', "3", "[" * 100_000])
def test_questions_that_are_no_rows_are_refused_before_arrow_reads_them(content, ask):
    """Its reader takes `null` for the end of the process."""
    Path("questions.jsonl").write_text(content)
    assert "questions.jsonl': line " in refused(ask, TASK)


def test_more_examples_than_there_are_is_one_line_and_leaves_nothing(ask):
    line = refused(ask, TASK, "--fewshot", 100)
    assert line == "error: fewshot must be at most 6, the examples that mine has, got 100"


def test_a_tokenizer_without_an_end_is_one_line_and_leaves_nothing(parrot, ask, tmp_path):
    model, tokenizer = load_trained(str(parrot))
    tokenizer.eos_token = None
    save_whole(model, tokenizer, tmp_path / "endless")
    assert "endless': its tokenizer has no eos_token" in refused(ask, TASK, model=tmp_path / "endless")


def test_a_folder_that_was_there_stays_as_it_was(ask, tmp_path):
    bad = changed("max_gen_toks: 4", "num_beams: x")
    (tmp_path / "out").mkdir()
    assert ask(bad)[0] == 2
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "out" / "mine.txt").write_text("mine")
    code, said = ask(TASK)
    assert code == 2
    assert "holds files of something else" in said.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_standard_errors_by_bootstrap_are_made_in_silence(ask):
    """The harness makes them in processes that took SIGTERM for an interrupt, and printed it."""
    text = changed("generate_until", "loglikelihood").replace(
        'generation_kwargs: {max_gen_toks: 4, until: ["."]}\n', ""
    )
    code, said = ask(text)
    assert code == 0
    assert "bootstrapping" not in said.out
    assert "Process" not in said.err
    assert "perplexity" in said.out
    scores = harness._read_results(Path("out"))["results"]["mine"]
    assert scores["perplexity_stderr,none"] >= 0


def test_an_evaluation_that_cannot_be_read_is_not_compared_with(ask, tmp_path):
    """Questions count once, scores are numbers, and the folder is that of an evaluation."""
    assert ask(TASK)[0] == 0
    for place, old, new, said in (
        ("twice", None, None, "samples_mine.jsonl' holds question 0 more than once"),
        ("nan", '"exact_match": 0.0', '"exact_match": NaN', "gives exact_match nan to question 0"),
        ("samples", None, None, "holds no results of lm.evaluate (there is no config.json)"),
    ):
        other = shutil.copytree(tmp_path / "out", tmp_path / place)
        samples = other / "samples_mine.jsonl"
        text = samples.read_text()
        if place == "samples":
            (other / "config.json").unlink()
        else:
            samples.write_text(text.replace(old, new) if old else text * 3)
        code, printed = ask(TASK, "--against", other)
        assert code == 2
        assert said in printed.err
