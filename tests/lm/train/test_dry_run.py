"""`--dry-run` counts the rows that the run would take."""

import io
import json
import re

import pytest
from rich.console import Console

from lm.train.dry_run import show_estimate
from lm.train.settings import TrainSettings


def written(tmp_path, name, count, **row):
    file = tmp_path / name
    file.write_text(
        "".join(json.dumps({key: f"{i}{value}" for key, value in row.items()}) + "\n" for i in range(count))
    )
    return str(file)


@pytest.mark.parametrize(
    ("sets", "options", "rows"),
    [
        (["q"], {"columns": ("prompt=q", "completion=a")}, 10),
        (["big*0.5", "small*0.5"], {}, 20),
        (["big:40", "small"], {}, 50),
        (["labelled"], {"method": "kto"}, 6),
    ],
)
def test_the_rows_are_those_of_the_run(sets, options, rows, tmp_path):
    files = {
        "q": written(tmp_path, "q.jsonl", 10, q="+1=", a="2"),
        "big": written(tmp_path, "big.jsonl", 100, prompt="+1=", completion="2"),
        "small": written(tmp_path, "small.jsonl", 10, prompt="+1=", completion="2"),
    }
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text('{"prompt": "1+1=", "completion": "2", "label": true}\n' * 6)
    files["labelled"] = str(labelled)
    names = tuple(files[name := re.match(r"\w+", text)[0]] + text.removeprefix(name) for text in sets)
    settings = TrainSettings(dataset=names, dry_run=True, batch_size=8, **options)
    told = io.StringIO()
    show_estimate(settings, Console(file=told, width=1000))
    assert f": {rows} rows" in told.getvalue()


def test_what_the_run_would_refuse_or_note_is_said(tmp_path):
    file = written(tmp_path, "few.jsonl", 10, prompt="+1=", completion="2")
    with pytest.raises(ValueError, match="has 10 rows, 11 were asked for"):
        show_estimate(TrainSettings(dataset=(f"{file}:11",), dry_run=True), Console(file=io.StringIO()))
    told = io.StringIO()
    settings = TrainSettings(method="sft", gamma=0.3, dataset=(file,), dry_run=True, batch_size=8)
    show_estimate(settings, Console(file=told, width=1000))
    assert "note gamma does not act with sft" in told.getvalue()
