"""The numbers on the page are the command's, and the presets' sentences hold."""

import shlex

import numpy as np
import pytest
import torch

from toy.experiment import align
from toy.explore.catalogue import preset
from toy.explore.frames import describe, measure
from toy.explore.request import Request
from toy.explore.training import Run
from toy.frozenlake import parse_command
from toy.lake import Lake


def request(**changes):
    data = {
        "map": "SFFFF/FHHHF/FFFGF", "slippery": False, "methods": ["sft", "ift", "ift:lam=0.5", "dpo", "ppo"],
        "protocol": "paper", "settings": {"seeds": 3}, "numbers": {"ift.gamma": 0.5}, "shade": "distance",
    }  # fmt: skip
    return Request.of({**data, **changes})


def train(wanted, updates):
    run = Run(wanted)
    for _ in range(updates):
        run.advance()
    frame = measure(run)
    run.close()
    return run, frame


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"slippery": True, "settings": {"seeds": 3, "prediction": "sampled", "optimizer": "rmsprop", "lr": 0.001}},
        {"protocol": "adam", "methods": ["orpo", "kto", "ift"], "settings": {"seeds": 2, "seed": 5}},
    ],
)
def test_the_command_of_the_page_gives_the_numbers_of_the_page(changes):
    run, frame = train(request(**changes), 12)
    command = parse_command([*shlex.split(describe(run)["command"])[3:], "--steps", "12"])
    lake = Lake.make(command.lake.map, slippery=command.lake.slippery)
    result = align(lake, command.output.method, command.settings())
    means = result.runs.groupby("method")[["parameter_mse", "policy_mse", "success"]].mean()
    assert set(means.index) == set(frame["methods"])
    for name, now in frame["methods"].items():
        for metric in means.columns:
            assert now["curves"][metric][0] == pytest.approx(means.loc[name, metric], rel=1e-7), (name, metric)
        np.testing.assert_allclose(now["policy"], result.policies[name], atol=1e-4)


def test_what_is_shown_does_not_change_what_is_trained():
    frames = []
    for shade in ("distance", "scored"):
        run = Run(request(shade=shade, slippery=True))
        for _ in range(3):
            run.advance()
            frames.append(measure(run))
        run.close()
    for name, now in frames[5]["methods"].items():
        assert now["policy"] == frames[2]["methods"][name]["policy"]
        assert sum(now["scored"]) == pytest.approx(1, abs=1e-3)
        assert "scored" not in frames[2]["methods"][name]


def test_states_are_mixed_where_the_policy_prefers_another_way():
    run = Run(request())
    frame, shown = measure(run), describe(run)
    run.close()
    columns = 5
    [[target, predicted, _]] = [line for line in frame["methods"]["ift"]["mixed"] if line[2] > 0.5]
    assert target == columns  # the target goes down first, the start policy prefers to go right
    assert predicted == 1
    assert "mixed" not in frame["methods"]["sft"]
    assert shown["targetWays"] == [[0, 5, 10, 11, 12, 13]]
    assert shown["otherWays"] == [[0, 1, 2, 3, 4, 9, 14, 13]]
    assert set(shown["neverVisited"]) == {1, 2, 3, 4, 9, 14}


def test_a_lake_that_is_refused_leaves_the_run_as_it_was():
    run = Run(request())
    run.advance()
    with pytest.raises(ValueError, match="suboptimal"):
        run.change(request(map="SFFFF/FHHHH/FFFGH"))
    run.advance()
    after = measure(run)
    run.close()
    assert after["methods"] == train(request(), 2)[1]["methods"]
    assert not run.changed


def test_a_step_size_that_changes_on_the_way_is_the_next_updates():
    run = Run(request(methods=["sft", "dpo"], numbers={}))
    run.advance()
    before = run.policies["sft"]
    before = [p.clone() for p in before]
    run.change(request(methods=["sft", "dpo"], numbers={}, settings={"seeds": 3, "lr": 1e-12}))
    run.advance()
    for old, new in zip(before, run.policies["sft"], strict=True):
        torch.testing.assert_close(old, new, rtol=0, atol=1e-9)
    run.close()


@pytest.fixture(scope="module")
def final():
    frames = {}

    def last(name):
        if name not in frames:
            wanted = Request.of(preset(name).request)
            run, frame = train(wanted, wanted.all_settings.steps)
            frames[name] = run, frame["methods"]
        return frames[name]

    return last


def ranked(methods, metric):
    return sorted(methods, key=lambda name: methods[name]["curves"][metric][0])


@pytest.mark.slow
def test_presets_show_what_their_sentences_say(final):
    _, order = final("order")
    assert ranked(order, "parameter_mse") == ["dpo", "ift", "orpo", "sft"]
    assert ranked(order, "travelled") == ["sft", "orpo", "ift", "dpo"]
    _, adam = final("adam")
    assert ranked(adam, "parameter_mse")[-1] == "dpo"
    assert ranked(adam, "parameter_mse") != ["dpo", "ift", "orpo", "sft"]
    _, lam = final("lambda")
    assert ranked(lam, "parameter_mse") == ["ift:lam=0.5", "ift", "ift:lam=0", "sft"]
    assert ranked(lam, "policy_mse").index("ift:lam=0.5") > ranked(lam, "policy_mse").index("ift:lam=0")
    _, dpo = final("dpo")
    assert ranked(dpo, "policy_mse")[0] == "dpo"
    assert ranked(dpo, "success")[0] == "dpo"
    run, ties = final("ties")
    start = int(run.problem.lake.starts[0])
    unsure = measure(Run(run.request))["methods"]["sft"]["error"][start]
    for name in ("sft", "ift"):
        assert ties[name]["curves"]["success"][0] > 0.99
        assert ties[name]["error"][start] > unsure
