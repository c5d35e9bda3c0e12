import numpy as np
import pytest

from toy import Lake, Settings, scored_states
from toy.stages import Problem

LAKE = Lake.make("ring")
SETTINGS = Settings(seeds=20, prediction="expected", lam=0.4)


@pytest.mark.parametrize("method", ["sft", "ift", "dft", "dpo", "orpo", "ppo"])
def test_shares_sum_to_one_and_stay_on_the_ice(method):
    scored = scored_states(LAKE, method, SETTINGS)
    assert scored.states.sum() == pytest.approx(1)
    np.testing.assert_allclose((scored.raised + scored.lowered).sum(1), scored.states)
    assert min(scored.raised.min(), scored.lowered.min()) >= 0


def test_supervised_methods_score_the_target_and_raise_its_moves():
    (target,) = Problem.of(LAKE, SETTINGS.shared()).targets
    scored = scored_states(LAKE, "sft", SETTINGS)
    wanted = np.zeros_like(scored.raised)
    for cell, action in target:
        wanted[cell, action] = 1 / len(target)
    np.testing.assert_allclose(scored.raised, wanted)
    assert not scored.lowered.any()


def test_ift_mixes_in_other_cells_and_keeps_the_targets_moves():
    sft, ift = (scored_states(LAKE, method, SETTINGS) for method in ("sft", "ift"))
    on_target = sft.states > 0
    assert 0 < ift.states[~on_target].sum() < SETTINGS.lam
    np.testing.assert_allclose(ift.raised.sum(0), sft.raised.sum(0))
    none = scored_states(LAKE, "ift", Settings(seeds=20, lam=0.0))
    np.testing.assert_allclose(none.states, sft.states)


def test_pairs_lower_what_the_policy_itself_does():
    dpo = scored_states(LAKE, "dpo", SETTINGS)
    on_target = scored_states(LAKE, "sft", SETTINGS).states > 0
    assert dpo.states[~on_target].sum() > 0
    assert not dpo.raised[~on_target].any()
    assert dpo.lowered[~on_target].any()


def test_a_target_without_a_worse_answer_counts_where_the_loss_takes_it_alone():
    """In a start that has learned the target most walks of its own equal it, and then are no worse answer."""
    learned = Settings(seeds=4, start_optimal_share=0.95, start_steps=300, negatives_per_step=8)
    raised = {method: scored_states(LAKE, method, learned).raised.sum() for method in ("kto", "orpo", "dpo")}
    assert raised["kto"] == pytest.approx(raised["orpo"])
    assert raised["kto"] > raised["dpo"] + 0.05


def test_ppo_raises_and_lowers_moves_of_its_own_episodes():
    ppo = scored_states(LAKE, "ppo", SETTINGS)
    assert ppo.raised.any()
    assert ppo.lowered.any()
