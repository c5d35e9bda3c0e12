"""What README shows is what happens."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_snippets_run(snippet, capsys):
    exec(compile(snippet, "README.md", "exec"), {})


@pytest.mark.slow
def test_the_table_is_what_make_readme_prints(tmp_path):
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "results/readme --overwrite" in line]
    arguments = line.split("python ")[1].replace("results/readme", str(tmp_path)).split()
    printed = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rows = {line.strip() for line in printed.splitlines()}
    table = README.split("Distance to the optimum, mean of")[1].split("```")[0]
    shown = [line.strip() for line in table.splitlines() if re.match(r" (start|sft|ift|ift λ=0|dpo|orpo) ", line)]
    assert len(shown) == 16
    for line in shown:
        assert line in rows


def test_the_shares_of_the_lakes_gap_are_those_of_the_audit():
    language = json.loads((ROOT / "docs" / "audit" / "lake-language.json").read_text())
    closed = {
        row["trial"].upper(): round(100 * (1 - row["mean"]))
        for row in language["standing"]
        if (row["protocol"], row["space"]) == ("tuned (value)", "value")
    }
    (sentence,) = re.findall(r"every method closes a part of the gap: (.*?)\.", README, re.DOTALL)
    shares = re.findall(r"([A-Z]+) (\d+) %", sentence)
    assert len(shares) == 4
    assert {name: int(share) for name, share in shares} == {name: closed[name] for name, _ in shares}
    assert closed["IFT GAMMA=0"] == closed["IFT PROPAGATION=SUM"] == closed["ORPO"]  # what the next sentence says
    chosen = [r for r in language["standing"] if (r["protocol"], r["space"]) == ("tuned (policies)", "policies")]
    assert "moves the base model's by more than 2 %" in README
    assert len(chosen) > 9
    assert all(abs(row["mean"] - 1) < 0.02 for row in chosen)


def test_the_studys_table_is_the_figures():
    table = [line for line in (ROOT / "docs" / "study" / "study.md").read_text().splitlines() if line.startswith("|")]
    assert len(table) == 9
    assert "\n".join(table) in README


def test_the_table_shows_the_papers_order_with_paired_differences_that_exclude_0():
    """On seeds that nothing was chosen on (`make readme`)."""
    table = README.split("First minus second, paired by seed")[1].split("```")[0]
    rows = {}
    for line in table.splitlines():
        match = re.match(r" (ift λ=0|\w+) +(ift λ=0|\w+) +(-?[\d.]+) ±([\d.]+)", line)
        if match:
            rows[match[1], match[2]] = (float(match[3]), float(match[4]))
    for closer, farther in (("dpo", "ift"), ("ift", "orpo"), ("orpo", "sft")):
        mean, half = rows[closer, farther] if (closer, farther) in rows else rows[farther, closer]
        lead = -mean if (closer, farther) in rows else mean
        assert lead > half, (closer, farther)


def test_no_page_names_a_file_that_is_not_there():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), ROOT / "bench" / "README.md"]
    for page in pages:
        for named in re.findall(
            r"`((?:common|ift|toy|lm|experiments|figures|bench|tests|docs)/[\w/.-]+)`", page.read_text()
        ):
            assert (ROOT / named).exists(), f"{page.name} names {named}"
