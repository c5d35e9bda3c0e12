"""The compiled kernels against what defines them: PyTorch's products, autograd, and NumPy's generators."""

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ift
from toy import Lake, Settings, align, compiled, protocol, threads
from toy.kernels import network, pairs, planning, rollout, steps, streams, targets
from toy.policy import Policy, by_products, cell_log_probs, init_policy, kernels_know, state_log_probs
from toy.stages import (
    Problem,
    _cross_entropy,
    _trained_to_match,
    fine_tune,
    fine_tune_by_autograd,
    fine_tune_compiled,
    make_task,
    optimal_policies,
    start_policies,
)
from toy.training import OPTIMIZERS, ByKernels, ByProducts, train

SLIPPERY = Lake.make("4x4", slippery=True)
TWO_STARTS = Lake.make(["SFFS", "FHFF", "FFFF", "HFFG"])


def problem_of(lake, changed):
    """A problem with five runs that differ, and their start policies."""
    problem = Problem.of(lake, changed.shared())
    return problem, start_policies(problem, range(5))[0]


def both_ways(problem, start, method, numbers, every=7):
    """The same training by the kernels and by autograd."""
    results = []
    for train_by in (fine_tune_compiled, fine_tune_by_autograd):
        task = make_task(problem, method, numbers, start, range(5))
        assert compiled.trains(start, task)
        results.append(train_by(task, start, lambda step, policy: None, lambda: problem.settings.lr, every))
    return results


@pytest.mark.parametrize("lake", [Lake.make("4x4"), SLIPPERY, TWO_STARTS], ids=["4x4", "slippery", "two starts"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("sft", {}),
        ("ift", {"form": "sum"}),
        ("ift", {"form": "product", "prediction": "sampled"}),
        ("ift", {"form": "product", "source": "mask", "prediction": "expected"}),
        ("ift", {"form": "product", "gamma": 0.0}),
        ("ift", {"form": "sum", "lam": 0.0}),
        ("dpo", {"label_smoothing": 0.1}),
        ("dpo", {"negatives": "start"}),
        ("orpo", {}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value,
)
def test_a_training_is_that_of_autograd(lake, optimizer, method, changes):
    changed = replace(Settings(steps=20, width=16, optimizer=optimizer), **changes)
    problem, start = problem_of(lake, changed)
    ours, definition = both_ways(problem, start, ift.METHODS[method], changed.numbers_of(ift.METHODS[method]))
    for mine, theirs in zip(ours.policy, definition.policy, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)
    assert torch.equal(ours.sampled_steps, definition.sampled_steps)
    assert torch.equal(ours.stopped_at_step, definition.stopped_at_step)


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_fixed_negatives_are_those_of_autograd(method):
    changed = replace(protocol("paper"), steps=20, negatives="suboptimal")
    problem, start = problem_of(Lake.make("ring"), changed)
    ours, definition = both_ways(problem, start, ift.METHODS[method], changed.numbers_of(ift.METHODS[method]))
    for mine, theirs in zip(ours.policy, definition.policy, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)
    assert not ours.sampled_steps.any()


def test_in_single_precision_a_plain_descent_is_that_of_autograd_to_its_rounding():
    changed = replace(protocol("paper"), steps=20, dtype="float32")
    problem, start = problem_of(Lake.make("ring"), changed)
    ours, definition = both_ways(problem, start, ift.METHODS["ift"], changed.numbers_of(ift.METHODS["ift"]))
    for mine, theirs in zip(ours.policy, definition.policy, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)


def test_numbers_may_differ_between_runs():
    changed = Settings(steps=10, width=16, form="sum")
    problem, start = problem_of(SLIPPERY, changed)
    lams, gammas = torch.linspace(0, 1, 5).double(), torch.linspace(1, 0, 5).double()
    ours, definition = both_ways(problem, start, ift.METHODS["ift"], {"lam": lams, "gamma": gammas})
    for mine, theirs in zip(ours.policy, definition.policy, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ["ift", "dpo"])
def test_a_run_does_not_depend_on_the_runs_beside_it_nor_on_how_often_one_looks(method):
    changed = Settings(steps=20, width=16, prediction="sampled")
    problem, start = problem_of(SLIPPERY, changed)
    value = ift.METHODS[method]
    together = fine_tune(problem, value, changed.numbers_of(value), start, range(5)).policy
    for run in (0, 4):
        alone = Policy(*(p[run : run + 1] for p in start))
        trained = fine_tune(problem, value, changed.numbers_of(value), alone, [run], every=3).policy
        assert all(torch.equal(a[run], b[0]) for a, b in zip(together, trained, strict=True))


def test_a_run_whose_loss_is_no_number_is_stopped_and_the_others_go_on():
    changed = Settings(steps=20, width=16, optimizer="sgd", lr=3.0)
    problem, start = problem_of(SLIPPERY, changed)
    start.first_weight[2] *= 1e200
    start.second_weight[2] *= 1e200
    ours, definition = both_ways(problem, start, ift.METHODS["sft"], {})
    assert torch.equal(ours.stopped_at_step, definition.stopped_at_step)
    assert ours.stopped_at_step.tolist()[2] >= 0
    for mine, theirs in zip(ours.policy, definition.policy, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("lake", [Lake.make("ring"), SLIPPERY], ids=["ring", "slippery"])
def test_start_and_optimal_policies_are_those_of_autograd(lake):
    changed = Settings(width=16)
    problem, start = problem_of(lake, changed)
    untrained = init_policy(len(problem.live), 16, range(5), torch.float64, problem.live.device)
    aim = 0.6 * problem.optimum + 0.1
    aim = aim * problem.live[:, None] / problem.live.sum()
    definition, _ = train(untrained, _cross_entropy(aim), changed.start_steps, optimizer="adam", lr=changed.start_lr)
    broken = Policy(*(p.clone() for p in start))
    for p in broken:
        p[1] = torch.nan  # a run that was stopped
    matched, done = _trained_to_match(problem, broken, problem.optimum * problem.live[:, None] / problem.live.sum())
    assert done.all()
    for ours, theirs in ((start, definition), (optimal_policies(problem, broken, range(5)), matched)):
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_networks_pass_is_that_of_matrix_products(dtype):
    policy, cells = init_policy(7, 12, range(3), dtype, torch.device("cpu")), torch.tensor([0, 3, 3, 6, 1])
    chosen = policy.first_weight.index_select(1, cells)
    torch.testing.assert_close(cell_log_probs(policy, cells), by_products(policy, chosen, chosen=True))
    torch.testing.assert_close(state_log_probs(policy, vectors(dtype)), by_products(policy, vectors(dtype)))


def vectors(dtype):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 5, 7, generator=generator, dtype=dtype) * (torch.rand(3, 5, 7, generator=generator) < 0.5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "reads",
    [
        lambda p: (cell_log_probs(p)[:, 2],),
        lambda p: (cell_log_probs(p, torch.tensor([0, 3, 3])), cell_log_probs(p, torch.tensor([6, 1]))),
        lambda p: (state_log_probs(p, vectors(torch.float64)), cell_log_probs(p)[:, :2], cell_log_probs(p)),
        lambda p: (state_log_probs(p, vectors(torch.float64)), state_log_probs(p, vectors(torch.float64))[:, :3] ** 2),
    ],
    ids=["one cell of all", "cells twice", "vectors, cells, and a pass that counts for nothing", "vectors twice"],
)
def test_an_update_from_what_a_loss_reads_is_that_of_autograd_through_the_network(reads, optimizer):
    start = init_policy(7, 12, range(3), torch.float64, torch.device("cpu"))
    learners = [by(start, optimizer) for by in (ByKernels, ByProducts)]
    for step in range(3):
        for learner in learners:
            weighed = [(i + 1) * (part.sin() + part).sum() for i, part in enumerate(reads(learner.policy)[:2])]
            learner.update(sum(weighed), 0.01, step)
    for mine, other in zip(*(learner.trained() for learner in learners), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


def test_what_is_read_without_a_gradient_is_not_kept():
    learner = ByKernels(init_policy(7, 12, range(3), torch.float64, torch.device("cpu")), "sgd")
    with torch.no_grad():
        cell_log_probs(learner.policy)
    cell_log_probs(learner.trained())
    assert learner.policy.passes == []


def test_too_narrow_networks_are_trained_without_kernels():
    changed = Settings(steps=3, width=3, seeds=2)
    problem, start = problem_of(SLIPPERY, changed)
    assert not kernels_know(start)
    tuned = fine_tune(problem, ift.METHODS["sft"], {}, start, range(5))
    assert all(p.isfinite().all() for p in tuned.policy)


def test_a_method_that_uses_a_known_loss_in_another_way_is_left_to_autograd():
    problem, start = problem_of(SLIPPERY, Settings(width=8))
    orpo = ift.METHODS["orpo"]
    for method, known in ((orpo, True), (replace(orpo, name="mine"), True), (replace(orpo, alone=None), False)):
        task = make_task(problem, method, {"beta": 0.1}, start, range(5))
        assert compiled.trains(start, task) is known


@given(seed=st.integers(0, 2**63), doubles=st.integers(0, 3), halves=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_streams_go_on_with_numpys_own_numbers(seed, doubles, halves):
    generator = np.random.default_rng([seed, 1])
    generator.random(doubles)
    generator.random(halves, dtype=np.float32)
    stream = streams.streams_of([generator])
    for _ in range(5):
        assert streams.random32(stream, 0) == generator.random(dtype=np.float32)
    for _ in range(3):
        assert streams.random64(stream, 0) == generator.random()


def test_other_generators_than_numpys_default_are_refused():
    with pytest.raises(ValueError, match="PCG64"):
        streams.streams_of([np.random.Generator(np.random.Philox(1))])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)
    threads._threads.cache_clear()
    threads.each_piece(lambda begin, end: None, 8)
    child = os.fork()
    if child == 0:
        threads.each_piece(lambda begin, end: None, 8)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_where_nothing_can_be_kept_kernels_are_compiled_anew(monkeypatch):
    def refuse(self):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(numba.core.dispatcher.Dispatcher, "enable_caching", refuse)

    @steps.compiled
    def twice(x):
        return 2 * x

    assert twice(3) == 6


def test_a_change_of_any_kernel_is_compiled(tmp_path):
    (tmp_path / "one.py").write_text("x = 1")
    (tmp_path / "two.py").write_text("y = 1")
    before = steps.cache_folder("", tmp_path)
    assert before.is_relative_to(tmp_path / "__pycache__")
    (tmp_path / "two.py").write_text("y = 2")
    steps.cache_folder.cache_clear()
    assert steps.cache_folder("", tmp_path) != before
    used = Path(steps.fit_tables._cache.cache_path)
    assert steps.cache_folder(numba.config.CACHE_DIR) in (used, *used.parents)


def test_parts_of_a_training_are_one_training(monkeypatch):
    """So that an interrupt is heard: a thousand million updates are no single call of a kernel."""
    whole = align(Lake.make("ring"), ["ift", "dpo"], Settings(seeds=3, steps=30, start_steps=30))
    monkeypatch.setattr(compiled, "_MOST_UPDATES", 7)
    parts = align(Lake.make("ring"), ["ift", "dpo"], Settings(seeds=3, steps=30, start_steps=30))
    pd.testing.assert_frame_equal(whole.runs, parts.runs)


def test_what_kernels_call_is_part_of_them():
    """Else a process that has just compiled a kernel would have other sums than one that reads it from the disk."""
    parts = {
        name: value.targetoptions
        for module in (network, pairs, planning, rollout, steps, targets)
        for name, value in vars(module).items()
        if isinstance(value, numba.core.dispatcher.Dispatcher) and value.targetoptions.get("no_cpython_wrapper")
    }
    assert {"forward", "backward", "_fit_targets", "_terms"} <= set(parts)
    assert all(options["forceinline"] for options in parts.values())


@pytest.mark.slow
def test_the_process_that_compiles_has_the_numbers_of_those_that_read(tmp_path):
    code = """
        from dataclasses import replace
        from toy import Lake, align, protocol
        for name in ("published", "paper"):
            settings = replace(protocol(name), seeds=3, steps=20, dtype="float32")
            print(align(Lake.make("random:6:700"), ["sft", "ift", "dpo", "orpo", "ppo"], settings).runs.to_csv())
    """
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    first, second = (subprocess.run(command, env=environment, capture_output=True, check=True) for _ in range(2))
    assert first.stdout == second.stdout != b""
