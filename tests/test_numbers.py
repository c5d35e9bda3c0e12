"""Numbers that pages give in their prose and tables are those of the files they come from."""

import csv
import re
from pathlib import Path

import pandas as pd
import pytest

from experiments.lagged import table as lagged_table

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
    assert round(seconds["DPO"] / seconds["SFT"]) == 3
