"""`AUDIT.md` from the audit's numbers: every sentence that says what came out is put together from them."""

from collections.abc import Iterable
from typing import Any

from figures.lake_language import edge

_UNITS = {"policies": "%", "weights": "%", "cells": " cells"}
_SIGNS = {"holds": "✓", "contradicted": "✗", "open": "·", "same": "="}
_METHODS = {"sft": "SFT", "ift": "IFT", "orpo": "ORPO", "dpo": "DPO", "ppo": "PPO"}


def render(found: dict[str, Any]) -> str:
    """The page, Markdown; `found` is what `audit.json` holds."""
    sections = (_head(found), verdicts(found), _language(found), _by_protocol(found), _standing(found),
                _setting(found), _OPEN)  # fmt: skip
    return "\n".join(sections)


def caption(found: dict[str, Any], figure: str) -> str:
    """The caption of `audit-claims.png` ("claims") or `audit-lambda.png` ("lambda")."""
    held_out = found["held_out"]
    setting = (
        f"{len(held_out['lakes'])} held-out lakes, {held_out['seeds'][1]} seeds from {held_out['seeds'][0]}, protocols "
        f"{', '.join(found['protocols'])}; settings and numbers in AUDIT.md. Made by `{found['command']}`."
    )
    if figure == "claims":
        return (
            "Effect of every claim with its 95 % interval over lakes and seeds, above 0 where the claim's direction is "
            f"right, as a share of the start policy's distance (cells visited: in cells). {setting}"
        )
    return (
        "Distance to the optimum of IFT against λ, everything else as in the protocol, with 95 % intervals over lakes "
        "and seeds (of the means; those of differences, in audit-claims.png, are paired and narrower). Lines: SFT; IFT "
        "at the protocol's own λ (dotted vertical) with γ = 0, or with noise as long as the residual in its place. "
        f"{setting}"
    )


def verdicts(found: dict[str, Any]) -> str:
    """The table of verdicts, also README's."""
    rows = []
    for claim in found["claims"]:
        over_all = [cell for cell in claim["cells"] if cell["ice"] == "all"]
        signs = "; ".join(
            f"{space} {' '.join(_SIGNS[cell['state']] for cell in over_all if cell['space'] == space)}"
            for space in dict.fromkeys(cell["space"] for cell in over_all)
        )
        shares = [cell["lakes_share"] for cell in over_all]
        lakes = f"{100 * min(shares):.0f}–{100 * max(shares):.0f} %"
        by_ice = " / ".join(_signs_on(claim, ice) for ice in ("not slippery", "slippery"))
        figure = f"[{claim['figure']}]({claim['figure']})"
        rows.append((claim["claim"], f"**{claim['verdict']}**", signs, by_ice, lakes, figure))
    names = ", ".join(found["protocols"])
    return "\n".join(
        (
            "## Verdicts",
            "",
            f"One sign per protocol ({names}): ✓ the claim holds (the 95 % interval lies above 0), ✗ it is "
            "contradicted (below 0), · undecided, = no difference at all. *Policies* and *weights* are the two "
            "distances to the optimum; *by ice* counts the cells on ice that is not slippery / slippery; *lakes* is "
            "the share of lakes whose own mean agrees with the claim, from the lowest to the highest cell.",
            "",
            *_table(("claim", "verdict", "by protocol", "by ice", "lakes", "figure"), rows),
            "",
        )
    )


def _signs_on(claim: dict[str, Any], ice: str) -> str:
    states = [cell["state"] for cell in claim["cells"] if cell["ice"] == ice]
    holds, against = states.count("holds"), states.count("contradicted")
    return f"✓{holds} ✗{against} ·{len(states) - holds - against}"


def _language(found: dict[str, Any]) -> str:
    """Each claim on language models beside the cell of the small networks that is most like it."""
    language = found["language"]
    head = "## Does it carry over to a language model?\n"
    if language is None:
        return f"{head}\nNot measured here: `python -m figures lake-language`, then this command again.\n"
    small = {claim["name"]: claim["cells"] for claim in found["claims"]}
    like = ("tuned (policies)", "policies", "not slippery")
    rows = []
    for claim in language["claims"]:
        others = small.get(claim["name"], [])
        mine = next((c for c in others if (c["protocol"], c["space"], c["ice"]) == like), None)
        signs = {(cell["protocol"], cell["space"]): _SIGNS[cell["state"]] for cell in claim["cells"]}
        alike = next((c for c in claim["cells"] if (c["protocol"], c["space"]) == like[:2]), None)
        rows.append(
            (
                claim["claim"],
                f"{_effect(mine)} {_SIGNS[mine['state']]}" if mine else "–",
                f"{_effect(alike)} {_SIGNS[alike['state']]}" if alike else "–",
                _carries_over(mine, alike),
                "; ".join(f"{protocol}, {space} {sign}" for (protocol, space), sign in signs.items()),
                f"**{claim['verdict']}**",
            )
        )
    stays = edge(language)
    header = ("claim", "small networks", "language model", "carries over", "language model, every cell", "verdict")
    maps, seeds = ", ".join(f"{name} {count}" for name, count in language["maps"].items()), language["seeds"]
    return "\n".join(
        (
            head,
            f"The lake in words, from `{language['command']}` (`lake-language.json`): a Mistral of 0.8M parameters "
            f"reads a map and answers with a walk. {len(seeds)} base models (seeds {seeds[0]} to {seeds[-1]}), each "
            "trained by every method with the same number of updates; settings chosen on development maps and other "
            f"base models, by policies or by value; then test maps, once ({maps}). Second and third column: "
            "distance of policies, with settings chosen by it, without slippery ice; effects as shares of the start's, "
            "or the base model's, distance. Small networks learn one lake each, the language model all lakes at once, "
            "and is measured on ones it has not seen. *Value* is the gap to the optimal value of the policy that the "
            "model's probabilities of the four moves make, cell by cell. IFT's variants are not tuned anew. Intervals "
            f"come from maps and from only {len(seeds)} base models: they are likely too narrow. {stays}".rstrip(),
            "",
            *_table(header, rows),
            "",
        )
    )


def _carries_over(small: dict[str, Any] | None, language: dict[str, Any] | None) -> str:
    if small is None or language is None:
        return "–"
    states = {small["state"], language["state"]}
    if states <= {"holds", "contradicted"}:
        return "yes" if len(states) == 1 else "no, it turns round"
    return "undecided"


def _head(found: dict[str, Any]) -> str:
    development, held_out = found["development"], found["held_out"]
    return (
        f"# What holds of the paper's claims on Frozen Lake\n\n"
        f"Written by `{found['command']}` from `audit.json`; every number and verdict below is made from it.\n\n"
        f"Each method had {development['settings_per_method']} settings to choose from, on "
        f"{len(development['lakes'])} development lakes with {development['seeds'][1]} seeds each "
        f"({development['trainings']:,} trainings). The chosen ones, the published ones and shared ones were then run "
        f"once on {len(held_out['lakes'])} other lakes with {held_out['seeds'][1]} other seeds each "
        f"({held_out['trainings']:,} trainings). The tuned settings owe nothing to those. The toolkit's "
        f"defaults (the shared protocol, and the start policy of all) are not so innocent: they come from an earlier "
        f"search on `ring`, one of these lakes, for settings in which the paper's order comes out.\n"
    )


def _by_protocol(found: dict[str, Any]) -> str:
    lines = [
        "## Every claim, protocol by protocol",
        "",
        "Effect with 95 % interval (bootstrap over lakes and seeds), above 0 where the claim's direction is right. A "
        "distance is a share of the start policy's own, in percent. A claim of several comparisons shows its weakest, "
        "with the bounds that decide (lowest lower end; lowest upper end, at a level divided by their number). "
        "Last two columns: share of lakes, and the state on ice that is not slippery / slippery.",
        "",
    ]
    for claim in found["claims"]:
        compared = ", ".join(f"{better} better than {worse}" for better, worse in claim["comparisons"])
        rows = []
        for cell in (cell for cell in claim["cells"] if cell["ice"] == "all"):
            by_ice = [
                _SIGNS[other["state"]]
                for other in claim["cells"]
                if other["ice"] != "all" and (other["protocol"], other["space"]) == (cell["protocol"], cell["space"])
            ]
            share = f"{100 * cell['lakes_share']:.0f} % of {cell['lakes']}"
            row = (cell["protocol"], cell["space"], _effect(cell), _SIGNS[cell["state"]], share, " / ".join(by_ice))
            rows.append(row)
        header = ("protocol", "space", "effect [95 %]", "", "lakes", "ice")
        lines += [f"### {claim['claim']}", "", f"{claim['verdict'].capitalize()}. Compared: {compared}.", ""]
        lines += [*_table(header, rows), ""]
    return "\n".join(lines)


def _effect(cell: dict[str, Any]) -> str:
    scale, unit = (1, _UNITS[cell["space"]]) if cell["space"] == "cells" else (100, _UNITS[cell["space"]])
    effect, low, high = (scale * cell[key] for key in ("effect", "low", "high"))
    return f"{effect:+.2f}{unit} [{low:+.2f}, {high:+.2f}]"


def _standing(found: dict[str, Any]) -> str:
    rows = [
        (
            row["protocol"],
            _METHODS.get(row["method"], row["method"]),
            f"{100 * row['policy_mse']:.1f} %",
            f"{100 * row['parameter_mse']:.1f} %",
            f"{row['success']:.3f}",
            f"{row['cells_visited']:.2f}",
            f"{row['sampled_steps']:,.0f}",
            f"{row['stopped']}",
        )
        for row in found["standing"]
    ]
    header = (
        "protocol", "method", "MSE of policy", "MSE of weights", "success", "cells visited", "steps sampled", "stopped"
    )  # fmt: skip
    return "\n".join(
        (
            "## Where each method ends",
            "",
            "Means over the held-out lakes, closest policy first; MSEs as shares of the start policy's (100 %: no "
            "nearer to the optimum than before). *Steps sampled* is how many steps of the lake a training had to take: "
            "none for SFT and IFT, negatives for ORPO and DPO, episodes for PPO, which sees rewards and no target and "
            "is here to show what sampling buys. *Stopped*: runs whose numbers were no longer finite.",
            "",
            *_table(header, rows),
            "",
        )
    )


def _setting(found: dict[str, Any]) -> str:
    rows = [
        (name, *(", ".join(f"{key} {value}" for key, value in own.items()) for own in protocol["settings"].values()))
        for name, protocol in found["protocols"].items()
    ]
    methods = [_METHODS[name] for name in next(iter(found["protocols"].values()))["settings"]]
    common = ", ".join(f"{name} {value}" for name, value in found["common"].items())
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    first, count = found["held_out"]["seeds"]
    development_first, development_count = found["development"]["seeds"]
    last = first + count - 1
    return "\n".join(
        (
            "## Lakes, seeds and settings",
            "",
            *(f"- *{name}*: {protocol['what']}." for name, protocol in found["protocols"].items()),
            "",
            *_table(("protocol", *methods), rows),
            "",
            "Chosen from: " + "; ".join(f"*{name}* {text}" for name, text in found["ranges"].items()) + ".",
            "",
            f"The same for all: {common}; float32. {versions}.",
            "",
            f"Development lakes: {', '.join(found['development']['lakes'])}; seeds {development_first} to "
            f"{development_first + development_count - 1}. Held-out lakes: {', '.join(found['held_out']['lakes'])}; "
            f"seeds {first} to {last}. `random-5-200` is `--map random:5:200` of `python -m toy.frozenlake`.",
            "",
        )
    )


_OPEN = """## What the paper leaves open, and what was assumed

The code of the paper's Frozen Lake was never released. Assumed here, and the same for every method:

- *Maps*: the paper has one, with one optimal and one sub-optimal trajectory. Here many. Where several walks are equally
  short, the optimal policy is uniform over the best moves, while a target shows one of them. A map that is there on
  both ices is drawn as one by the bootstrap; the random maps are on one ice each.
- *Network, start, optimiser, step size, updates*: a two-layer network; a start trained toward a mix of optimum and
  uniform; the rest as listed above. The step size of the paper's language models says nothing here.
- *The residual on a lake*: the cell where the policy's own move would have led, mixed into the target cell.
- *One thing at a time*: λ, γ, form and noise are changed with everything else kept, the step size too. In the tuned
  protocols that favours the values that were tuned together.
- *Negatives* of DPO and ORPO: drawn from the policy as it is during the training. The paper says that they are sampled
  from the policy, not when.
- *Optimal parameters*: the same network, from the same start, trained on the optimal policy. Distances between weights
  depend on that choice; distances between policies do not.
- *On slippery ice* a target walk is the likeliest successful episode, slips included.
"""


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    header = list(header)
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
