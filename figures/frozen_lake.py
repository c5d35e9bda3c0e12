"""The paper's figure 3: policies on the lake after each method, and how far they are from the optimum."""

import json
from pathlib import Path

import numpy as np

from toy import Lake, Settings, align, results
from toy.picture import draw_result

METHODS = ("sft", "ift", "orpo", "dpo", "ppo")
FIRST_SEED = 20_000  # seeds that nothing was chosen on


def frozen_lake(out: Path, quick: bool) -> list[Path]:
    """Draw the figure into `out`, from `out/frozen-lake/` if it holds the results; returns the files written."""
    lake, settings = Lake.make("ring"), Settings(seeds=16 if quick else 200, seed=FIRST_SEED)
    folder = out / "frozen-lake"
    results.check_folder(folder, results.describe(lake, METHODS, settings), overwrite=False)
    if not (folder / "config.json").exists():
        result = align(lake, METHODS, settings)
        results.save(result, results.summary(result), lake, settings, folder)
    summary = json.loads((folder / "summary.json").read_text())
    with np.load(folder / "policies.npz") as tables:
        policies, visits = (
            {key.removeprefix(kind): tables[key] for key in tables.files if key.startswith(kind)}
            for kind in ("policy_", "visits_")
        )
    figure = draw_result(lake, summary["methods"], settings.seeds, policies, visits)
    written = [out / f"frozen-lake.{kind}" for kind in ("png", "svg", "md")]
    figure.savefig(written[0], dpi=200)
    figure.savefig(written[1], metadata={"Date": None})
    written[2].write_text(caption(json.loads((folder / "config.json").read_text()), summary))
    return written


def caption(config: dict, summary: dict) -> str:
    """Setting and numbers of the figure, as text."""
    settings, metrics = config["settings"], summary["methods"]
    order = sorted((name for name in metrics if name != "start"), key=lambda name: metrics[name]["policy_mse"]["mean"])
    numbers = "; ".join(
        f"{name} {1000 * m['mean']:.2f} [{1000 * m['low']:.2f}, {1000 * m['high']:.2f}]"
        for name, m in ((name, metrics[name]["policy_mse"]) for name in ("start", *order))
    )
    return (
        f"Lake {'/'.join(config['lake']['rows'])}, {settings['seeds']} seeds from {settings['seed']}, width "
        f"{settings['width']}, start {settings['start']}, {settings['steps']} updates of {settings['optimizer']} at "
        f"{settings['lr']}, λ {settings['lam']} ({settings['prediction']}), γ {settings['gamma']} "
        f"({settings['propagation']}), negatives {settings['negatives']}. Arrows: mean policy; blue: probability that "
        f"an episode visits the cell. MSE of the policy to the optimum ×10⁻³, mean with 95 % interval: {numbers}. "
        f"Made by `python -m figures frozen-lake`.\n"
    )
