"""The audit: settings chosen on development lakes, run once on held-out ones, and each claim judged by the numbers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from common.folders import reading, write_whole
from common.parts import Part, run_parts
from experiments import protocols
from experiments.claims import findings, standing
from experiments.protocols import PROTOCOLS
from figures.audit_figures import draw_claims, draw_lambda
from figures.audit_page import caption, render
from figures.lake_language import FILE
from figures.style import save
from toy import Settings, Trial, sweep

Lakes = tuple[tuple[str, bool], ...]


def audit(out: Path, quick: bool = False, jobs: int = -1) -> list[Path]:
    """Run what is missing under `out/audit-runs`, write `audit.json`, `AUDIT.md` and the figures; their paths."""
    scale = _scale(quick)
    trials = protocols.development_trials(quick)
    folder = out / "audit-runs"
    development = _development(folder / "development", scale["development_lakes"], trials, jobs)
    settings = protocols.protocol_settings(development, trials)
    held_out = _held_out(folder / "held-out", scale["held_out_lakes"], settings, scale["seeds"], jobs)
    found = _json_ready(
        {
            "command": f"python -m figures audit{' --quick' if quick else ''}",
            "versions": json.loads((folder / "held-out" / "config.json").read_text())["made_with"],
            "development": {
                "lakes": [protocols.lake_key(*lake) for lake in scale["development_lakes"]],
                "seeds": list(protocols.DEVELOPMENT_SEEDS),
                "settings_per_method": len(trials) // len(protocols.METHODS),
                "trainings": len(development),
            },
            "held_out": {
                "lakes": [protocols.lake_key(*lake) for lake in scale["held_out_lakes"]],
                "seeds": list(scale["seeds"]),
                "trainings": len(held_out),
            },
            "protocols": {
                name: {"what": what, "settings": {m: _own(m, s) for m, s in settings[name].items()}}
                for name, what in PROTOCOLS.items()
            },
            "ranges": protocols.RANGES,
            "common": {name: getattr(Settings(), name) for name in _COMMON},
            "standing": standing(held_out),
            "claims": findings(held_out),
            "language": _language(out / FILE),
        }
    )
    written = [out / "audit.json", out / "AUDIT.md"]
    write_whole(
        written[0],
        lambda path: path.write_text(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"),
    )
    write_whole(written[1], lambda path: path.write_text(render(found)))
    written += save(draw_claims(found), out, "audit-claims", caption(found, "claims"))
    written += save(draw_lambda(held_out, settings), out, "audit-lambda", caption(found, "lambda"))
    return written


_COMMON = ("steps", "width", "start", "start_optimal_share", "start_steps", "start_lr", "negatives",
           "negatives_per_step", "rollouts", "discount")  # fmt: skip
_OWN = {
    "sft": (),
    "ift": ("lam", "gamma", "propagation", "prediction"),
    "dpo": ("beta", "label_smoothing"),
    "orpo": ("beta",),
    "ppo": ("clip", "epochs"),
}


def _own(method: str, settings: Settings) -> dict[str, Any]:
    """The settings that matter to a method, beyond those that all share."""
    own = {name: asdict(settings)[name] for name in ("optimizer", "lr", *_OWN[method])}
    return {**own, "beta": settings.beta_of(method)} if "beta" in own else own


def _changed(settings: Settings) -> dict[str, Any]:
    """What the settings say other than the defaults."""
    defaults = asdict(Settings())
    return {name: value for name, value in asdict(settings).items() if value != defaults[name]}


def _scale(quick: bool) -> dict[str, Any]:
    if not quick:
        return {
            "development_lakes": protocols.DEVELOPMENT_LAKES,
            "held_out_lakes": protocols.HELD_OUT_LAKES,
            "seeds": protocols.HELD_OUT_SEEDS,
        }
    return {
        "development_lakes": protocols.DEVELOPMENT_LAKES[:2],
        "held_out_lakes": protocols.HELD_OUT_LAKES[:4],
        "seeds": (protocols.HELD_OUT_SEEDS[0], 8),
    }


def _development(folder: Path, lakes: Lakes, trials: dict[str, Trial], jobs: int) -> pd.DataFrame:
    parts: dict[str, Part] = {}
    for lake in lakes:
        for method in protocols.METHODS:
            own = {name: trial for name, trial in trials.items() if trial.method == method}
            parts[f"{protocols.lake_key(*lake)}-{method}"] = (_sweep, (lake, own))
    definition = {
        "lakes": lakes,
        "defaults": Settings().as_dict(),
        "trials": {name: [t.method, _changed(t.settings)] for name, t in trials.items()},
    }
    return run_parts(folder, definition, parts, jobs)


def _held_out(
    folder: Path, lakes: Lakes, settings: dict[str, dict[str, Settings]], seeds: tuple[int, int], jobs: int
) -> pd.DataFrame:
    trials = {name: protocols.held_out_trials(settings[name], seeds) for name in PROTOCOLS}
    parts: dict[str, Part] = {}
    for lake in lakes:
        for i, name in enumerate(PROTOCOLS):
            parts[f"{protocols.lake_key(*lake)}-{i}"] = (_sweep, (lake, trials[name], name))
    changed = {name: {key: [t.method, _changed(t.settings)] for key, t in of.items()} for name, of in trials.items()}
    definition = {"lakes": lakes, "defaults": Settings().as_dict(), "trials": changed}
    return run_parts(folder, definition, parts, jobs)


def _sweep(lake: tuple[str, bool], trials: dict[str, Trial], protocol: str = "") -> pd.DataFrame:
    rows = sweep(protocols.make_lake(*lake), trials)
    return rows.assign(lake=protocols.lake_key(*lake), slippery=lake[1], protocol=protocol)


def _language(file: Path) -> dict[str, Any] | None:
    """What `figures lake-language` found, where it was run."""
    with reading(file):
        return json.loads(file.read_text()) if file.exists() else None


def _json_ready(data: Any) -> Any:
    """The data as it will be read back, so that page and file are made from the same."""
    return json.loads(json.dumps(data, ensure_ascii=False))
