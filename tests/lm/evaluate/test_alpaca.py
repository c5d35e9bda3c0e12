"""AlpacaEval with a judge on this machine: an endpoint that prefers gold, and fails where it is told to."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

pytest.importorskip("alpaca_eval", reason="the judge extra is not installed: pip install -e '.[judge]'")

from lm.evaluate import __main__ as command
from lm.evaluate import alpaca
from tests.calling import exit_code

ROWS = [
    {"instruction": f"Say {i}.", "output": "gold" if i < 4 else "lead", "generator": "ref", "dataset": "here"}
    for i in range(8)
]


class Judge(BaseHTTPRequestHandler):
    """Prefers the output with `gold` in it, else the one that is not `lead`."""

    broken: ClassVar[dict[str, str]] = {}  # words of an instruction → how the judge fails on it
    asked: ClassVar[list[str]] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        (words,) = [row["instruction"] for row in ROWS if row["instruction"] in prompt]
        self.asked.append(words)
        how = self.broken.get(words)
        if how == "slow":
            time.sleep(1.5)
        second = max(prompt.find('"M"'), prompt.find('"model_2"'))
        marked = "gold" if "gold" in prompt else "lead"
        first_is_better = (prompt.rfind(marked) < second) == (marked == "gold")
        if body.get("logprobs"):
            text = "m" if first_is_better else "M"
        else:
            ranks = (1, 2) if first_is_better else (2, 1)
            text = str([{"model": f"model_{i + 1}", "rank": rank} for i, rank in enumerate(ranks)])
        times = self.asked.count(words)
        text = "banana" if how == "nonsense" or (how == "busy, then nonsense" and times == 3) else text
        busy = (how == "busy" and times < 6) or (how == "busy, then nonsense" and times < 3)
        top = [{"token": text, "logprob": -0.01, "bytes": None}]
        content = [{"token": text, "logprob": -0.01, "bytes": None, "top_logprobs": top}]
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text},
                  "logprobs": {"content": content, "refusal": None} if body.get("logprobs") else None}  # fmt: skip
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice],
                 "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}  # fmt: skip
        data = json.dumps(reply).encode()
        try:
            self.send_response(429 if busy else {"error": 500, "no such model": 404}.get(how, 200))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(data)
        except BrokenPipeError:  # the other side has given up
            pass

    def log_message(self, *_):
        pass


@pytest.fixture
def judge(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(alpaca, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-the-test")
    Judge.broken, Judge.asked = {}, []
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


@pytest.fixture
def call(parrot, tmp_path, monkeypatch):
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))

    def called(*arguments):
        options = ("--model", parrot, "--suite", "alpaca-eval", "--instructions", tmp_path / "rows.json", "--out",
                   tmp_path / "out", "--max-new-tokens", 24, "--judge-timeout-seconds", 1, *arguments)  # fmt: skip
        return exit_code(command.main, monkeypatch, options)

    return called


def test_without_a_judge_the_answers_are_written_in_alpacaevals_format(call, tmp_path, capsys):
    assert call() == 0
    answers = json.loads((tmp_path / "out" / "answers.json").read_text())
    assert [answer["instruction"] for answer in answers] == [row["instruction"] for row in ROWS]
    assert {tuple(answer) for answer in answers} == {("dataset", "instruction", "output", "generator")}
    assert all(answer["output"] for answer in answers)
    printed = capsys.readouterr().out
    assert "No judge was named" in printed
    assert "--judge MODEL" in printed


@pytest.mark.parametrize("spoiled", ["{}", '{"doc_id": 0, "doc": null, "filtered_resps": []}', "3", "["])
def test_answers_that_were_spoiled_are_refused_by_the_file_s_name(spoiled, call, tmp_path, capsys):
    assert call() == 0
    (tmp_path / "out" / "samples_alpaca_answers.jsonl").write_text(f"{spoiled}\n")
    assert call() == 2
    assert "samples_alpaca_answers.jsonl' cannot be read: delete it, and it is made again" in capsys.readouterr().err


def test_verdicts_that_were_spoiled_are_refused_by_the_file_s_name(call, judge, tmp_path, capsys):
    assert call("--judge", "some-model", "--judge-url", judge) == 0
    (kept,) = (tmp_path / "out").glob("judged-*.json")
    for spoiled in ("null", "{}", "[3]", "["):
        kept.write_text(spoiled)
        assert call("--judge", "some-model", "--judge-url", judge) == (0 if spoiled == "{}" else 2)
        assert spoiled == "{}" or f"{kept.name}' cannot be read: delete it" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["1", "2"])
def test_the_win_rate_is_the_judges(version, call, judge, tmp_path, capsys):
    assert call("--judge", "some-model", "--judge-url", judge, "--judge-version", version) == 0
    found = json.loads((tmp_path / "out" / f"judge-{version}.json").read_text())
    assert found["win_rate"] == pytest.approx(50, abs=0.1)  # gold wins 4, lead loses 4
    assert (found["judged"], found["failed"]) == (8, 0)
    assert len(Judge.asked) == 8
    assert "raw win rate 50.00 %" in capsys.readouterr().out
    written = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.json*"))
    assert "secret-of-the-test" not in written


def test_failures_are_retried_then_counted_and_never_taken_for_a_loss(call, judge, tmp_path, capsys):
    Judge.broken = {"Say 4.": "nonsense", "Say 5.": "error", "Say 6.": "slow"}
    assert call("--judge", "some-model", "--judge-url", judge) == 0
    found = json.loads((tmp_path / "out" / "judge-2.json").read_text())
    assert (found["judged"], found["failed"]) == (5, 3)
    assert found["win_rate"] == pytest.approx(20, abs=0.1)  # 1 of the 5 that were judged
    assert {words: Judge.asked.count(words) for words in Judge.broken} == dict.fromkeys(Judge.broken, 3)
    assert "3 failed" in capsys.readouterr().out
    Judge.broken, Judge.asked = {}, []
    assert call("--judge", "some-model", "--judge-url", judge) == 0  # goes on: only what failed is asked again
    assert sorted(Judge.asked) == ["Say 4.", "Say 5.", "Say 6."]
    found = json.loads((tmp_path / "out" / "judge-2.json").read_text())
    assert (found["judged"], found["failed"]) == (8, 0)
    assert found["win_rate"] == pytest.approx(50, abs=0.1)


def test_a_judge_that_fails_throughout_is_said_to(call, judge, monkeypatch, capsys):
    Judge.broken = {row["instruction"]: "nonsense" for row in ROWS}
    assert call("--judge", "some-model", "--judge-url", judge) == 2
    assert "judge 'some-model' gave no usable answer to 8 pairs" in capsys.readouterr().err
    Judge.broken, Judge.asked = dict.fromkeys(Judge.broken, "no such model"), []
    assert call("--judge", "some-model", "--judge-url", judge) == 2
    assert "judge 'some-model': Error code: 404" in capsys.readouterr().err
    assert len(Judge.asked) <= 5  # nobody is asked again and again
    monkeypatch.delenv("OPENAI_API_KEY")
    assert call("--judge", "some-model", "--judge-url", judge) == 2
    assert "set OPENAI_API_KEY" in capsys.readouterr().err


def test_a_busy_judge_is_waited_for(call, judge, tmp_path):
    Judge.broken = {"Say 4.": "busy", "Say 5.": "busy, then nonsense"}
    assert call("--judge", "some-model", "--judge-url", judge) == 0
    found = json.loads((tmp_path / "out" / "judge-2.json").read_text())
    assert (found["judged"], found["failed"]) == (8, 0)
    assert Judge.asked.count("Say 4.") == 6
    assert Judge.asked.count("Say 5.") == 4  # waiting takes nothing from the three tries


def test_a_missing_key_is_said_before_the_answers_are_made(call, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert call("--judge", "some-model") == 2
    assert "set OPENAI_API_KEY" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
