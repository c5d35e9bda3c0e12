"""The tasks for lm-evaluation-harness: what it reports is what this project's own scores say."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="the eval extra is not installed: pip install -e '.[eval]'")

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from lm.lake.maps import MOVES
from lm.lake.play import play

TASKS = Path(__file__).parents[3] / "lm" / "tasks"


def tasks(**metadata):
    return TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)


def test_the_harness_and_the_scores_agree(player_that_learned):
    model, tokenizer = player_that_learned
    found = lm_eval.simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=20), tasks=["frozen_lake_symbols"],
        task_manager=tasks(maps=40), apply_chat_template=True, bootstrap_iters=0,
    )  # fmt: skip
    scores = found["results"]["frozen_lake_symbols"]
    docs = [sample["doc"] for sample in sorted(found["samples"]["frozen_lake_symbols"], key=lambda s: s["doc_id"])]
    letters = np.stack([np.array([w for w in doc["prompt"].split() if w != "/"]).reshape(4, 4) for doc in docs])
    outcomes, walks = play(model, tokenizer, letters)
    shortest = [
        o == "goal" and len(w) == len(d["chosen"].split()) for o, w, d in zip(outcomes, walks, docs, strict=True)
    ]
    assert scores["success,none"] == pytest.approx(outcomes.count("goal") / 40)
    assert scores["shortest,none"] == pytest.approx(np.mean(shortest))
    assert scores["hole,none"] == pytest.approx(outcomes.count("hole") / 40)
    assert 0 < scores["success,none"] + scores["hole,none"] < 1


def test_answers_in_plain_english_are_judged_on_the_map_of_the_prompt():
    task = tasks().load(["frozen_lake"])["tasks"]["frozen_lake"]
    docs = list(task.test_docs())[:20]
    for doc in docs:
        best = doc["chosen"]
        assert task.process_results(doc, [best]) == {"success": 1, "shortest": 1, "hole": 0, "no_move": 0}
        written = best.replace(" ", ", ").capitalize() + "."  # as pretrained models write
        assert task.process_results(doc, [written]) == task.process_results(doc, [best])
        assert task.process_results(doc, ["I would go " + best])["no_move"] == 1
        assert task.process_results(doc, [""]) == {
            "success": 0,
            "shortest": 0,
            "hole": 0,
            "no_move": 0,
        }  # it stops at once
        assert set(doc["chosen"].split()) <= set(MOVES)
    assert len(list(task.test_docs())) == 500
