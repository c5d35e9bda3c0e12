"""What README and the pages show is what happens."""

import ast
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
LAKE = (DOCS / "frozen-lake.md").read_text()
GENERATED = ("methods/", "_build/")  # by the site's build
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "bench" / "README.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if not str(page.relative_to(DOCS)).startswith(GENERATED)),
]


def name_of(page):
    return str(page.relative_to(ROOT))


def test_readme_is_one_page():
    assert len(README.splitlines()) <= 130


SNIPPETS = [
    pytest.param(snippet, id=f"{name_of(page)}-{number}")
    for page in PAGES
    for number, snippet in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1)
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_blocks_marked_python_run(snippet, capsys):
    """Blocks without a language are not run: they need a model, data or another machine."""
    exec(compile(snippet, "snippet", "exec"), {})


def test_every_command_that_is_shown_has_its_options():
    """Options are looked for in the sources of the command's package, so that no command has to start."""
    sources = {
        package: "".join(path.read_text() for path in sorted((ROOT / package).rglob("*.py")))
        for package in ("common", "ift", "toy", "lm", "experiments", "figures", "bench")
    }
    shown = 0
    for page in PAGES:
        for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            lines = block.replace("\\\n", " ").splitlines()
            for line in lines:
                match = re.search(r"-m ((?:toy|lm|figures|experiments|bench)[\w.]*)(.*)", line.split("  #")[0])
                if not match:
                    continue
                shown += 1
                module = ROOT / match[1].replace(".", "/")
                assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), f"{page.name}: {line}"
                package = match[1].partition(".")[0]
                for flag in re.findall(r"--([a-z][\w-]+)", match[2]):
                    name = flag.replace("-", "_")
                    known = any(re.search(rf"\b({name}|{flag})\b", sources[p]) for p in (package, "ift", "experiments"))
                    assert known, f"{page.name}: {line}: --{flag}"
    assert shown > 40


def test_links_within_the_pages_lead_somewhere():
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text()):
            if not target.startswith(("http", "mailto")):
                file = page.parent / target if target else page
                assert file.exists(), f"{name_of(page)} links to {target}"
                assert not anchor or anchor in anchors_of(file), f"{name_of(page)} links to {target}#{anchor}"


def anchors_of(page):
    """The headings of a page as a Git host and the site name them in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_no_page_names_a_file_that_is_not_there():
    for page in PAGES:
        for named in re.findall(
            r"`((?:common|ift|toy|lm|experiments|figures|bench|tests|docs)/[\w/.-]+)`", page.read_text()
        ):
            assert (ROOT / named).exists(), f"{name_of(page)} names {named}"


@pytest.mark.slow
def test_the_table_is_what_make_readme_prints(tmp_path):
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "results/readme --overwrite" in line]
    arguments = line.split("python ")[1].replace("results/readme", str(tmp_path)).split()
    printed = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rows = {line.strip() for line in printed.splitlines()}
    table = LAKE.split("Distance to the optimum, mean of")[1].split("```")[0]
    shown = [line.strip() for line in table.splitlines() if re.match(r" (start|sft|ift|ift λ=0|dpo|orpo) ", line)]
    assert len(shown) == 16
    for line in shown:
        assert line in rows


def test_the_table_shows_the_papers_order_with_paired_differences_that_exclude_0():
    """On seeds that nothing was chosen on (`make readme`)."""
    table = LAKE.split("First minus second, paired by seed")[1].split("```")[0]
    rows = {}
    for line in table.splitlines():
        match = re.match(r" (ift λ=0|\w+) +(ift λ=0|\w+) +(-?[\d.]+) ±([\d.]+)", line)
        if match:
            rows[match[1], match[2]] = (float(match[3]), float(match[4]))
    for closer, farther in (("dpo", "ift"), ("ift", "orpo"), ("orpo", "sft")):
        mean, half = rows[closer, farther] if (closer, farther) in rows else rows[farther, closer]
        lead = -mean if (closer, farther) in rows else mean
        assert lead > half, (closer, farther)


def test_every_column_of_the_results_is_explained():
    from toy.metrics import METRICS

    columns = {*METRICS, "method", "seed", "stopped_at_step", "sampled_steps"}
    table = LAKE.split("The columns of `runs.parquet`:")[1].split("*Live*")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= columns


def test_the_shares_of_the_lakes_gap_are_those_of_the_audit():
    page = (DOCS / "lake-in-words.md").read_text()
    language = json.loads((DOCS / "audit" / "lake-language.json").read_text())
    closed = {
        row["trial"]: round(100 * (1 - row["mean"]))
        for row in language["standing"]
        if (row["protocol"], row["metric"]) == ("tuned (value)", "value_gap")
    }
    (sentence,) = re.findall(r"every method closes a part of the gap: (.*?)\.", page, re.DOTALL)
    shares = re.findall(r"([A-Z]+) (\d+) %", sentence)
    assert len(shares) == 4
    assert {name: int(share) for name, share in shares} == {name: closed[name.lower()] for name, _ in shares}
    assert closed["ift:gamma=0"] == closed["ift:form=sum"] == closed["orpo"]  # what the next sentence says
    expected = " ".join((DOCS / "language-models.md").read_text().split("## What to expect")[1].split())
    assert re.findall(r"IFT closes (\d+) % of the gap to the optimum and SFT (\d+) %", expected) == [
        (str(closed["ift"]), str(closed["sft"]))
    ]
    assert re.findall(r"IFT closes (\d+) %, as ORPO does", expected) == [str(closed["orpo"])]
    chosen = [r for r in language["standing"] if (r["protocol"], r["metric"]) == ("tuned (policies)", "policy_mse")]
    assert "moves the base model's by more than 2 %" in page
    assert len(chosen) > 9
    assert all(abs(row["mean"] - 1) < 0.02 for row in chosen)


EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_examples_are_short():
    assert len(EXAMPLES) >= 5
    assert all(len(example.read_text().splitlines()) <= 40 for example in EXAMPLES)
    assert all(ast.get_docstring(ast.parse(example.read_text())) for example in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_examples_run(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for a command that an example calls
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out
