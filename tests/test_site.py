"""The documentation site is built without a warning, and its pages ask nothing of other machines."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ift import METHODS

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_is_built_and_needs_no_network(tmp_path):
    pytest.importorskip("myst_nb", reason="the site needs the extra docs: pip install -e '.[docs]'")
    pytest.importorskip("furo")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]
    pages = sorted(tmp_path.rglob("*.html"))
    assert {"index", "tutorial", "replays", "search"} <= {page.stem for page in pages}
    for method in METHODS:
        titles = re.findall(r"<h2>(.*?)<a", (tmp_path / "methods" / f"{method}.html").read_text())
        assert titles == ["Data", "Loss", "Numbers", "Cost", "How to run it", "Results", "API"], method
    for file in (*pages, *tmp_path.rglob("*.css")):
        text = file.read_text()
        loaded = re.findall(r"""<(?:script|img|iframe|link|source)[^>]+(?:src|href)=["'](https?:[^"']+)""", text)
        loaded += re.findall(r"""url\(["']?(https?:[^)"']+)""", text)
        assert not loaded, f"{file.relative_to(tmp_path)} loads {loaded}"
    for page in pages:
        for target in re.findall(r"""(?:href|src)=["']([^"'#?:]+)(?:[#?][^"']*)?["']""", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(tmp_path)} links to {target}"
