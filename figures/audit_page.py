"""`AUDIT.md` from the audit's numbers: five sentences and a picture, then every claim in every protocol."""

from collections.abc import Iterable
from typing import Any

from experiments import tuning
from experiments.audit import COLUMNS, SUMMARIES, Audit, development_summary
from experiments.claims import DISTANCES, Cell, Finding
from figures.style import made_by
from ift import METHODS

_SIGNS = {"holds": "✓", "contradicted": "✗", "open": "·", "same": "="}
_TITLES = {
    "parameter_mse": "Parameter MSE, the paper's distance",
    "policy_mse": "Policy MSE, the distance between what the policies do",
}
_KINDS = ("not slippery", "slippery", "one way")


def render(audit: Audit, data: dict[str, Any]) -> str:
    """The page, Markdown; `data` is what `audit.json` holds."""
    sections = (
        "# What holds of the paper's claims on Frozen Lake\n",
        "\n".join(f"{place}. {sentence}" for place, sentence in enumerate(sentences(audit), 1)) + "\n",
        "![How much closer than SFT each method ends, in four readings of the same experiment](audit-leads.png)\n",
        _head(audit, data),
        _table_of_claims(audit),
        _others(audit),
        _language(data),
        _standing(audit),
        _setting(audit, data),
        _OPEN,
    )
    return "\n".join(sections)


def sentences(audit: Audit) -> list[str]:
    """The result in five sentences, for readers who know neither the protocols nor the tables."""
    by_name = {each.claim.name: each for each in audit.findings}

    def cell(claim: str, protocol: str, metric: str = "parameter_mse", kind: str = "all") -> Cell:
        wanted = by_name[claim].cell(protocol, metric, kind)
        assert wanted is not None
        return wanted

    def share(claim: str, protocol: str, metric: str = "parameter_mse", kind: str = "all") -> str:
        return f"{cell(claim, protocol, metric, kind).lakes_share:.0%}"

    lakes = cell("ift closer than sft", "paper").lakes
    lead, at_equal = (cell("ift closer than sft", name) for name in ("paper", "paper, equal distance"))
    return [
        f"Repeated as the paper describes it, on {lakes} lakes that were not used to choose any setting, most of the "
        f"result holds: the network trained with IFT ends closer to the optimal network than the one trained with SFT "
        f"on {share('ift closer than sft', 'paper')} of the lakes, closer than ORPO's on "
        f"{share('ift closer than orpo', 'paper')}, and ORPO's ends closer than SFT's on "
        f"{share('orpo closer than sft', 'paper')}.",
        f"DPO ends closer than IFT on {share('dpo closer than ift', 'paper', kind='not slippery')} of the lakes where "
        f"no move slips, and on {share('dpo closer than ift', 'paper', kind='slippery')} of those where moves may "
        f"slip, so that the paper's whole order appears on {share('order', 'paper')} of all lakes.",
        f"The main reason is the length of the steps: all methods share one step size, so a method whose loss has "
        f"longer gradients moves farther; where all methods are compared after they have moved equally far, IFT is "
        f"ahead of SFT by {100 * at_equal.effect:.2f} % of the start's distance to the optimum instead of "
        f"{100 * lead.effect:.2f} %.",
        f"With Adam, an optimiser that makes all steps about equally long, the result is reversed: IFT ends closer "
        f"than SFT on only {share('ift closer than sft', 'paper-adam')} of the lakes, and DPO on only "
        f"{share('dpo closer than sft', 'paper-adam')}.",
        f"The result is about the parameters of the networks: if the probabilities of the moves are compared instead, "
        f"IFT is closer to the optimum than SFT on only {share('ift closer than sft', 'paper', 'policy_mse')} of the "
        f"lakes, although the probability of reaching the goal follows the paper's order on "
        f"{share('order of success', 'paper', 'success', 'not slippery')} of the lakes where no move slips.",
    ]


def captions(audit: Audit) -> dict[str, str]:
    """The captions of the three pictures."""
    first, count = audit.scale.seeds
    lakes = audit.scale.held_out_lakes
    second_way = f"{sum(lake.second_way for lake in lakes)} held-out lakes with a second way to the goal"
    every = (
        f"{len(lakes)} held-out lakes, {sum(lake.second_way for lake in lakes)} of them with a second way to the goal, "
        "which the protocols paper and paper-adam need"
    )
    setting = (
        f"{count} seeds from {first}; intervals are 95 % bootstrap intervals over lakes and "
        f"seeds. Settings and numbers are in AUDIT.md. {made_by('audit', audit.scale.quick)}"
    )
    return {
        "audit-leads": "How much closer to the optimum than SFT each method ends, as a share of the start's distance: "
        "in the paper's protocol; the same runs read where all have travelled equally far from the start; with Adam in "
        "place of plain gradient descent (these three by parameter MSE); and in the paper's "
        f"protocol by policy MSE. {second_way}, {setting}",
        "audit-claims": "Effect of every claim about distances, by protocol, above 0 where the claim's direction is "
        f"right; a claim of several comparisons shows its weakest. {every}; {setting}",
        "audit-lambda": "Distance to the optimum of IFT against λ, minus SFT's on the same lakes, all else as in the "
        "protocol; the dotted line is IFT with noise as long as the residual of λ = 0.2 in its place. "
        f"{second_way}, {setting}",
    }


def _head(audit: Audit, data: dict[str, Any]) -> str:
    held_out, development = data["held_out"], data["development"]
    second_way = sum(lake.second_way for lake in audit.scale.held_out_lakes)
    first, count = audit.scale.seeds
    return (
        f"Written by `{data['command']}` from `audit.json`; every number above and below is made from it. "
        f"{held_out['trainings']:,} trainings on {len(held_out['lakes'])} lakes ({second_way} with a second way to the "
        f"goal, which the paper's protocol needs) with {count} seeds from {first}; {development['trainings']:,} more "
        f"on development lakes, from which the tuned settings were chosen. The paper's protocol leaves step size, "
        f"number of updates, width, β and the share of the sub-optimal way in the start open: they were fixed on "
        f"development lakes (`docs/protocols.md`) before the lakes above were looked at.\n"
    )


def _table_of_claims(audit: Audit) -> str:
    """Claims in rows, protocols in columns, one sign each with the share of lakes; a table per distance."""
    lines = [
        "## Every claim, in every protocol",
        "",
        "✓ the claim holds over all lakes of the protocol (the whole 95 % interval lies on its side), ✗ it is "
        "contradicted, · it is undecided, = there is no difference; then the share of lakes on which it comes out in "
        "the mean over seeds, and in brackets the sign on lakes that are not slippery / slippery / without a second "
        "way to the goal. The last are left out where the start needs a second way. Protocols are described below.",
        "",
        "![Effect of every claim, by protocol](audit-claims.png)",
        "",
    ]
    for metric in DISTANCES:
        of_metric = [each for each in audit.findings if metric in each.claim.metrics]
        rows = [(each.claim.sentence, *(_sign(each, name, metric) for name in COLUMNS)) for each in of_metric]
        lines += [
            f"### {_TITLES[metric]}",
            "",
            *_table(("claim", *COLUMNS), rows),
            "",
            _only_in_the_papers(of_metric, metric),
            "",
        ]
    lines += ["![Distance to the optimum against λ](audit-lambda.png)", ""]
    return "\n".join(lines)


def _only_in_the_papers(of_metric: list[Finding], metric: str) -> str:
    """Says which claims hold in the paper's protocol and in no other one that they were judged in."""
    only = []
    for each in of_metric:
        states = {cell.protocol: cell.state for cell in each.cells if (cell.metric, cell.kind) == (metric, "all")}
        if len(states) > 1 and [name for name, state in states.items() if state == "holds"] == ["paper"]:
            only.append(f"“{each.claim.sentence}”")
    if not only:
        return "No claim holds in the paper's setting (column *paper*) and nowhere else."
    return f"In the paper's setting (column *paper*) and nowhere else holds: {'; '.join(only)}."


def _sign(each: Finding, protocol: str, metric: str) -> str:
    cell = each.cell(protocol, metric)
    if cell is None:
        return "–"
    kinds = (each.cell(protocol, metric, kind) for kind in _KINDS)
    by_kind = "/".join(_SIGNS[kind.state] for kind in kinds if kind)
    return f"{_SIGNS[cell.state]} {cell.lakes_share:.0%} ({by_kind})"


def _others(audit: Audit) -> str:
    """Claims about success, what a training scores and where the trained policy goes."""
    lines = ["## Success, and what is meant by exploring", ""]
    lines += [
        "The paper says that DPO, ORPO and IFT explore more cells than SFT. That is true of the cells whose states a "
        "training *scores*: its targets, its negatives, and the cells that IFT mixes in. It is another question "
        "whether the policy that comes out *visits* more cells.",
        "",
    ]
    rows = []
    for each in audit.findings:
        if each.claim.metrics != DISTANCES:
            (metric,) = each.claim.metrics
            rows.append((each.claim.sentence, *(_sign(each, name, metric) for name in COLUMNS)))
    return "\n".join([*lines, *_table(("claim", *COLUMNS), rows), ""])


def _language(data: dict[str, Any]) -> str:
    """What the lake in words says, where it was run."""
    lines = ["## Does it carry over to a language model?", ""]
    optimisers, tuned = data["lake-optimisers"], data["lake-language"]
    if optimisers is not None:
        lines += [f"{optimisers['answer']} ![The lake in words](lake-optimisers.png)", ""]
    if tuned is not None:
        lines += [
            f"With settings chosen for each method on development maps (`{tuned['command']}`, `lake-language.json`), "
            f"on a Mistral of 0.8M parameters that answers a map with a walk, {len(tuned['seeds'])} base models:",
            "",
            *_table(("claim", "verdict"), ((claim["claim"], claim["verdict"]) for claim in tuned["claims"])),
            "",
        ]
    if optimisers is None and tuned is None:
        lines += ["It was not measured here: `python -m figures lake-language lake-optimisers`, then this again.", ""]
    return "\n".join(lines)


def _standing(audit: Audit) -> str:
    columns = {
        "parameter_mse": ("parameter MSE, % of start's", 100, "{:.1f}"),
        "policy_mse": ("policy MSE, % of start's", 100, "{:.1f}"),
        "policy_mse_nearest": ("to the nearest optimal policy ×10⁻³", 1000, "{:.1f}"),
        "policy_mse_beside": ("beside the target ×10⁻³", 1000, "{:.1f}"),
        "drift_target": ("drift on the target, nats", 1, "{:.3f}"),
        "drift_beside": ("drift beside it, nats", 1, "{:.3f}"),
        "travelled": ("travelled", 1, "{:.2f}"),
        "success": ("success", 1, "{:.3f}"),
        "cells_visited": ("cells visited", 1, "{:.2f}"),
        "stopped": ("stopped", 1, "{:.0f}"),
    }
    rows = [
        (
            str(row["protocol"]),
            str(row["method"]).upper(),
            *(_number(float(row[name]), scale, form) for name, (_, scale, form) in columns.items()),
        )
        for row in audit.standing.to_dict("records")
    ]
    return "\n".join(
        (
            "## Where each method ends",
            "",
            "Means over lakes of means over seeds, closest parameters first. *Beside the target*: policy MSE over the "
            "cells that no target visits. *Drift*: KL of the policy to the start policy, what is forgotten, on the "
            "target's cells and beside them. *Travelled*: how far the parameters went. *Stopped*: runs whose numbers "
            "were no longer finite. PPO sees rewards and no target.",
            "",
            *_table(("protocol", "method", *(title for title, _, _ in columns.values())), rows),
            "",
        )
    )


def _number(value: float, scale: float, form: str) -> str:
    return "–" if value != value else form.format(scale * value)


def _setting(audit: Audit, data: dict[str, Any]) -> str:
    methods = [name for name in METHODS if any(name in by_method for by_method in audit.settings.values())]
    rows = []
    for name, by_method in audit.settings.items():
        own = data["protocols"][name]["settings"]
        shown = [
            ", ".join(f"{key} {value}" for key, value in own[m].items()) if m in by_method else "–" for m in methods
        ]
        rows.append((name, *shown))
    first, count = audit.scale.seeds
    versions = ", ".join(f"{name} {number}" for name, number in data["versions"].items())
    ranges = "; ".join(f"*{name}* {text}" for name, text in tuning.RANGES.items())
    return "\n".join(
        (
            "## Protocols, lakes, seeds and settings",
            "",
            *(f"- *{name}*: {SUMMARIES[name]}" for name in COLUMNS),
            "",
            *_table(("protocol", *(name.upper() for name in methods)), rows),
            "",
            f"Tuned settings were chosen from: {ranges}. Development lakes: {development_summary(audit.scale)}. All "
            f"trainings are in float32. Versions: {versions}.",
            "",
            f"Held-out lakes: {', '.join(data['held_out']['lakes'])}; seeds {first} to {first + count - 1}. "
            "`random-5-700` is `--map random:5:700` of `python -m toy.frozenlake`; `slippery` adds `--slippery`.",
            "",
        )
    )


_OPEN = """## What the paper leaves open, and what was assumed

The code of the paper's Frozen Lake was never released. Assumed here, and the same for every method:

- *Maps*: the paper has one, with one optimal and one sub-optimal trajectory; here there are many. Where several ways
  are equally short the optimal policy is uniform over the best moves, while a target shows one of them: the distance to
  the *nearest* optimal policy does not count that.
- *Network, optimiser, step size, updates, start*: a two-layer network and what the protocols say.
- *The residual on a lake*: the cell to which the policy's own move would have led, mixed into the target's cell.
- *Negatives* of DPO and ORPO are drawn from the policy as it is during the training. The paper says that they are
  sampled from the policy, not when.
- *Optimal parameters*: the same network, from the same start, trained on the optimal policy. Distances between
  parameters depend on that choice; distances between policies do not.
- *On slippery ice* a target is the likeliest successful episode, slips included. Episodes end after 100 steps, as in
  Gymnasium; the optimal policy knows no such limit.
"""


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    header = list(header)
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
