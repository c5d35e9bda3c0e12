"""A replay: one HTML file that plays a training without a server, made of the page's own drawings."""

import json
import re
from functools import cache
from pathlib import Path

from common.folders import write_whole, writing
from toy.explore.catalogue import Preset
from toy.explore.request import Request

_STATIC = Path(__file__).with_name("static")
_SCRIPTS = ("dom.js", "board.js", "explain.js", "panels.js", "curves.js", "player.js")  # each after those it imports
_STYLES = ("style.css", "drawing.css")


@cache
def template() -> str:
    """The file without a recording: what plays it stands in it, so that it needs nothing else."""
    style = "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in _STYLES)
    script = "\n".join(_without_imports((_STATIC / name).read_text(encoding="utf-8")) for name in _SCRIPTS)
    return (
        (_STATIC / "replay.html")
        .read_text(encoding="utf-8")
        .replace("/* STYLE */", style)
        .replace("/* SCRIPT */", script)
    )


def record(preset: Preset, path: Path) -> None:
    """Train as a preset says, as many updates as its settings have, and write the replay."""
    if not path.absolute().parent.is_dir():
        raise ValueError(f"replay {str(path)!r} cannot be written: its folder is not there")
    if path.is_dir():
        raise ValueError(f"replay {str(path)!r} is a folder: name a file")
    with writing(path):
        text = template().replace('"RECORDING"', _recording(preset).replace("<", "\\u003c"))
        write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def _recording(preset: Preset) -> str:
    from toy.explore.frames import describe, measure
    from toy.explore.training import Run

    run = Run(Request.of(preset.request))
    frames = [measure(run)]
    for _ in range(run.request.all_settings.steps):
        run.advance()
        frames.append(measure(run))
    shown = describe(run)
    described = {
        "run": {**shown, "command": shown["sharedCommand"]},
        "frames": frames,
        "shade": preset.shade,
        "sentence": preset.sentence,
    }
    recording = json.dumps(described, separators=(",", ":"))
    run.close()
    return recording


def _without_imports(script: str) -> str:
    """A module as a part of one script: its names are those of the whole."""
    return re.sub(r"^export ", "", re.sub(r"^import .*\n", "", script, flags=re.MULTILINE), flags=re.MULTILINE)
