"""The audit as a page and pictures: `AUDIT.md`, `audit.json`, the answer at a glance, every claim, and what λ does."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.folders import finite, read_object, reading, write_json, write_whole
from experiments.audit import SUMMARIES, Audit
from experiments.audit import audit as run_audit
from figures.audit_figures import draw_claims, draw_headline, draw_lambda
from figures.audit_page import captions, render
from figures.style import save
from ift import METHODS

LANGUAGE = ("lake-language.json", "lake-optimisers.json")  # what the lake in words says, where it was run


def audit(out: Path, quick: bool = False, jobs: int = -1) -> list[Path]:
    """Run what is missing under `out/audit-runs`, write `audit.json`, `AUDIT.md` and the figures; their paths."""
    result = run_audit(out / "audit-runs", quick, jobs)
    data = as_data(result, out)
    write_json(out / "audit.json", data)
    page = render(result, data)
    write_whole(out / "AUDIT.md", lambda path: path.write_text(page, encoding="utf-8"))
    texts = captions(result)
    return [
        out / "audit.json",
        out / "AUDIT.md",
        *save(draw_headline(result), out, "audit-leads", texts["audit-leads"], quick),
        *save(draw_claims(result), out, "audit-claims", texts["audit-claims"], quick),
        *save(draw_lambda(result), out, "audit-lambda", texts["audit-lambda"], quick),
    ]


def as_data(result: Audit, out: Path) -> dict[str, Any]:
    """The audit JSON-ready: what README and other pages take their numbers from."""
    file = out / "audit-runs" / "held-out" / "config.json"
    with reading(file):
        config = read_object(file)
        versions = {"intuitive-fine-tuning": config["version"], **config["made_with"]}
    settings = {
        name: {method: {**_own(asdict(each)), **each.numbers_of(METHODS[method])} for method, each in by_method.items()}
        for name, by_method in result.settings.items()
    }
    return finite(
        {
            "command": f"python -m figures audit{' --quick' if result.scale.quick else ''}",
            "versions": versions,
            "development": {
                "lakes": [lake.key for lake in result.scale.development_lakes],
                "trainings": result.development_runs,
            },
            "held_out": {
                "lakes": [lake.key for lake in result.scale.held_out_lakes],
                "seeds": list(result.scale.seeds),
                "trainings": int((~result.runs["protocol"].str.contains("equal distance")).sum()),
            },
            "protocols": {name: {"summary": SUMMARIES[name], "settings": settings.get(name)} for name in SUMMARIES},
            "findings": [asdict(each) for each in result.findings],
            "standing": result.standing.to_dict("records"),
            **{name.removesuffix(".json"): _language(out / name) for name in LANGUAGE},
        }
    )


def _own(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that protocols differ in."""
    names = ("start", "start_suboptimal_share", "optimizer", "lr", "steps", "form", "prediction")
    return {name: settings[name] for name in names}


def _language(file: Path) -> dict[str, Any] | None:
    """What a figure of the lake in words wrote, where it was run."""
    with reading(file):
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
