"""Numbers that pages give in their prose and tables are those of the files they come from."""

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from experiments.benchmark import shipped
from experiments.lagged import table as lagged_table
from experiments.paper_choices import Options, paper_choices
from figures.leaderboard import write_page

DOCS = Path(__file__).parents[1] / "docs"


def rows_of(file):
    with (DOCS / file).open() as lines:
        return list(csv.DictReader(lines))


def cells_of(line):
    return [cell.strip(" *`") for cell in line.strip("|").split("|")]


def assert_rounds(shown, value, where):
    """That a number on a page is a file's, rounded to the page's digits (the file may have rounded it before)."""
    half_a_digit = 0.51 * 10.0 ** -len(shown.split(".")[1])
    assert float(shown) == pytest.approx(float(value), abs=half_a_digit), where


def test_the_better_methods_table_is_that_of_the_held_out_lakes():
    section = (DOCS / "a-better-one.md").read_text().split("## On held-out lakes")[1].split("## What this means")[0]
    kept = {(row["protocol"], row["trial"]): row for row in rows_of("better/held-out.csv")}
    metrics = [(p, metric) for p in ("adam", "paper") for metric in ("parameter_mse", "policy_mse", "success")]
    compared = 0
    for line in section.splitlines():
        name = re.match(r"\| \**`?([\w:=,]+)`?\**(?: \([^|]*\))? \|", line)
        if name is None or ("adam", name[1].lower()) not in kept:
            continue
        for (protocol, metric), shown in zip(metrics, cells_of(line)[1:], strict=True):
            if shown:
                assert float(shown) == pytest.approx(float(kept[protocol, name[1].lower()][metric]), abs=6e-4), line
                compared += 1
    assert compared > 50


def test_its_differences_are_those_of_the_verdicts():
    section = (DOCS / "a-better-one.md").read_text().split("| than SFT | than IFT | than DPO |")[1].split("\n\n")[0]
    names = {"parameters": "parameter_mse", "policies": "policy_mse", "success": "success"}
    kept = {
        (row["protocol"], row["metric"], row["than"]): row
        for row in rows_of("better/held-out-verdicts.csv")
        if row["better"] == "still"
    }
    compared = 0
    for line in section.splitlines():
        title, *shown = cells_of(line)
        protocol, _, what = title.partition("`, ")
        if what not in names:
            continue
        for than, cell in zip(("sft", "ift", "dpo"), shown, strict=True):
            row = kept[protocol, names[what], than]
            numbers = re.findall(r"-?\d+\.\d+", cell)
            for number, column in zip(numbers, ("effect", "low", "high"), strict=True):
                assert_rounds(number, row[column], (line, than))
            compared += 1
    assert compared == 18


_CHOSEN = {"policy MSE": "tuned (policies)", "value gap": "tuned (value)"}
_WHO = {"the base models": "base", "SFT": "sft", "still": "still"}
LANGUAGE_METRICS = ("state_policy_mse", "state_value_gap", "state_success", "success")


def test_what_the_better_method_is_worth_in_a_language_model_is_that_of_its_tables():
    page = (DOCS / "a-better-one.md").read_text().split("## In a language model")[1].split("## What was tried")[0]
    means, differences = (table.split("\n\n")[0].splitlines()[2:] for table in page.split("| chosen by |")[1:])
    kept = {(row["protocol"], row["trial"]): row for row in rows_of("better/language.csv")}
    for line in means:
        by, who, step, *shown = cells_of(line)
        row = kept[_CHOSEN[by or "policy MSE"], _WHO[who.split(",")[0].rstrip("`")]]
        assert not step or f"learning_rate={float(step):g}" in row["settings"].replace("'", "")
        for number, metric in zip(shown, LANGUAGE_METRICS, strict=True):
            assert_rounds(number, row[metric], line)
    verdicts = {(row["protocol"], row["metric"]): row for row in rows_of("better/language-verdicts.csv")}
    for line in differences:
        by, *shown = cells_of(line)
        for cell, metric in zip(shown, LANGUAGE_METRICS, strict=True):
            for number, column in zip(re.findall(r"-?\d+\.\d+", cell), ("effect", "low", "high"), strict=True):
                assert_rounds(number, verdicts[_CHOSEN[by], metric][column], line)


def test_what_lagged_predictions_change_is_that_of_its_file():
    kept = pd.read_csv(DOCS / "lagged.csv")
    page = " ".join((DOCS / "lake-in-words.md").read_text().split("## IFT at SFT's price")[1].split())
    assert " ".join(lagged_table(kept).split()) in page
    kept = kept.set_index(["lam", "arm", "score"])
    gap, mse, success = (kept.loc[0.2, "lagged", score] for score in ("state_value_gap", "state_policy_mse", "success"))
    assert round(gap.difference + gap.half, 3) == 0.003
    fresh = kept.loc[0.2, "fresh", "state_policy_mse"]["mean"]
    assert round(100 * (mse.difference + mse.half) / fresh, 1) == 1.1
    assert success.difference - success.half > 0
    others = kept.drop(index=[(0.2, "lagged"), (0.2, "fresh"), (0.5, "fresh"), (0.0, "no mixing")])
    lowest, highest = others["difference"] - others["half"], others["difference"] + others["half"]
    assert round(lowest.xs("success", level="score").min(), 1) == -4.2
    assert round(highest.xs("state_value_gap", level="score").max(), 3) == 0.01
    assert (lowest < 0).all()  # "no difference is shown"
    assert (highest > 0).all()


def test_what_the_study_shows_follows_from_its_table():
    page = " ".join((DOCS / "study.md").read_text().split("What the study shows:")[1].split())
    table = {}
    for line in (DOCS / "study" / "study.md").read_text().splitlines():
        if line.startswith("| ") and "answer loss" not in line:
            name, loss, _, exact, seconds, memory = cells_of(line)
            table[name] = (float(loss), exact, float(seconds or "nan"), float(memory or "nan"))
    loss, seconds = ({name: row[place] for name, row in table.items()} for place in (0, 2))
    gained = {name: loss["before"] - value for name, value in loss.items()}
    assert max(gained, key=gained.get) == "SFT"
    assert gained["IFT"] == pytest.approx(gained["SFT"] * 5 / 6, rel=0.02)  # "IFT gains a sixth less"
    assert -0.05 < gained["DPO"] < 0  # "DPO raises that loss a little"
    assert abs(loss["ORPO"] - loss["SFT, pairs"]) <= 0.01  # "within 0.01"
    (ratio,) = re.findall(r"IFT takes ([\d.]+) times SFT's time here, and less memory", page)
    assert (seconds["IFT"] - 0.05) / (seconds["SFT"] + 0.05) <= float(ratio) + 0.005
    assert float(ratio) - 0.005 <= (seconds["IFT"] + 0.05) / (seconds["SFT"] - 0.05)
    assert table["IFT"][3] < table["SFT"][3]
    right = [round(96 * float(row[1].split()[0]) / 100) for row in table.values()]
    assert (min(right), max(right)) == (1, 4)  # "one to four of 96 answers are right"
    assert f"DPO takes {seconds['DPO'] / seconds['SFT']:.1f} times as long as SFT" in page


TRIED = {  # a row's name on the page: its name in docs/better/search.csv
    "SFT, summed": "SFT, summed",
    "the first idea: held one step beside, k 3": "the lead: held one step beside, k 3",
    "held six steps": "held six steps beside",
    "the first idea, with ASFT's hold on the target (0.1)": "held one step beside and on the target (0.1)",
    "ties left open, nothing held": "SFT, ties left open (power 4), nothing held",
    "held at the start to the power 3": "held at the start to the power 3",
    "both: held at the power 3, ties left open": "the same, ties left open (power 3)",
    "the likeliest power, ties left open, summed": "the likeliest power, ties left open, summed",
    "the same, all cells beside": "the same, all cells beside",
    "the same, shares of the start's visits": "the same, shares of the start's visits, k 1",
    "ties as far as the start explains the target (`still`)": "the same, power 8 at most, ties at power 8 (`still`)",
}


def test_what_was_tried_for_the_better_method_is_that_of_its_search():
    section = (DOCS / "a-better-one.md").read_text().split("## What was tried")[1]
    kept = {(row["protocol"], row["trial"]): row for row in rows_of("better/search.csv")}
    compared = 0
    for line in section.splitlines():
        name, *shown = [*cells_of(line), "", "", ""]
        trial = TRIED.get(name)
        if trial is None:
            continue
        for protocol, cell in zip(("adam", "paper"), shown, strict=False):
            numbers = re.findall(r"\d\.\d+", cell)
            for number, metric in zip(numbers, ("policy_mse", "parameter_mse", "success"), strict=False):
                assert_rounds(number, kept[protocol, trial][metric], line)
                compared += 1
    assert compared == 63


def test_the_development_table_of_language_models_is_that_of_its_file():
    page = (DOCS / "a-better-one.md").read_text().split("## In a language model")[1]
    table = page.split("| | step size | policy MSE | value gap | goals, greedy |")[1].split("\n\n")[0]
    kept = {
        row["settings"].replace(" method_numbers=()", ""): row for row in rows_of("better/language-development.csv")
    }
    compared = 0
    for line in table.splitlines()[2:]:
        who, step, *shown = cells_of(line)
        if not step:
            continue  # the base model
        method, *numbers = who.replace("`", "").split(", ")
        settings = f"{method.lower()} learning_rate={float(step):g}"
        if numbers:
            words = [repr(number.replace(" ", "=")) for number in numbers]
            settings += f" method_numbers=({', '.join(words)}{',' if len(words) == 1 else ''})"
        for number, metric in zip(shown, ("state_policy_mse", "state_value_gap", "success"), strict=True):
            assert_rounds(number, kept[settings][metric], line)
            compared += 1
    assert compared == 24


def test_the_leaderboard_is_the_page_of_the_runs_that_ship(tmp_path):
    held = shipped()
    write_page(tmp_path, held.rows, held.costs, (), quick=False)
    assert (tmp_path / "benchmark.md").read_text() == (DOCS / "leaderboard.md").read_text()


def test_the_better_methods_place_is_that_of_the_leaderboard():
    board = (DOCS / "leaderboard.md").read_text()
    overall, *protocols = re.split(r"\n## (?:Protocol .*|Settings that were chosen)\n", board)
    places = [cells_of(line)[1] for line in overall.splitlines() if re.match(r"\| \d", line)]
    assert places[:3] == ["dagger", "expert", "still"]  # "third, behind the two ceilings"
    for column in (1, 3):  # "in `adam` it is first in both distances"
        rows = [cells_of(line) for line in protocols[2].splitlines() if re.match(r"\| [a-z]+ \| \d", line)]
        assert min(rows, key=lambda row: float(row[column].split()[0]))[0] == "still"


def test_what_lam_does_in_the_papers_protocol_is_that_of_the_audit():
    page = " ".join((DOCS / "method.md").read_text().split("**Where it helps.**")[1].split("**Why there.**")[0].split())
    audit = json.loads((DOCS / "audit" / "audit.json").read_text())
    shares = {
        (found["claim"]["name"], cell["metric"], cell["kind"]): f"{cell['lakes_share']:.0%}"
        for found in audit["findings"]
        for cell in found["cells"]
        if cell["protocol"] == "paper"
    }
    parameters, policies = "parameter_mse", "policy_mse"
    assert re.findall(r"\d+%", page) == [
        shares["residual", parameters, "slippery"],
        shares["more than noise", parameters, "slippery"],
        shares["residual", parameters, "not slippery"],
        shares["residual", policies, "all"],
        shares["residual", policies, "not slippery"],
    ]


def test_the_time_of_ift_at_7b_is_that_of_the_measured_table():
    pages = [DOCS.parent / "bench" / "README.md", DOCS / "language-models.md", DOCS / "study.md"]
    (table,) = re.findall(r"\| 7B, all weights .*?\n\n", pages[0].read_text(), re.DOTALL)
    seconds = {cells_of(line)[0]: float(cells_of(line)[3]) for line in table.splitlines()[2:] if line}
    for page in pages:
        text = " ".join(page.read_text().split())
        (ratio,) = {*re.findall(r"IFT (?:takes as much memory as SFT and|took) (1\.20) times", text)}
        assert seconds["IFT"] / seconds["SFT"] == pytest.approx(float(ratio), abs=0.005)


def test_the_time_of_lagged_ift_is_that_of_the_measured_table():
    lines = (DOCS.parent / "bench" / "README.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("| IFT, lagged, beside its own SFT |")]
    page = " ".join((DOCS / "language-models.md").read_text().split())
    assert f"it takes about as long as SFT ({cells_of(line)[3]} times on a small model)" in page


def test_the_tutorial_names_as_many_lakes_as_the_papers_protocol_has():
    audit = json.loads((DOCS / "audit" / "audit.json").read_text())
    order = next(found for found in audit["findings"] if found["claim"]["name"] == "order")
    (cell,) = (
        c for c in order["cells"] if (c["protocol"], c["metric"], c["kind"]) == ("paper", "parameter_mse", "all")
    )
    for page in ("tutorial.md", "audit/audit-leads.md", "audit/audit-lambda.md"):
        (count,) = re.findall(r"(\d+) (?:held-out )?lakes", (DOCS / page).read_text())
        assert int(count) == cell["lakes"], page


@pytest.mark.slow
def test_the_protocols_table_is_what_its_command_prints(tmp_path):
    shown = (DOCS / "protocols.md").read_text().split("```\n")[1].splitlines()
    printed = paper_choices(Options(tmp_path / "out")).round(2).to_string().splitlines()
    assert [line.rstrip() for line in shown] == [line.rstrip() for line in printed]
