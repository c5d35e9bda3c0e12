"""The page in a real browser, used as a student would: `make test-browser`."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[4]


def curve(user, metric, method):
    selector = f'.chart[data-metric="{metric}"] path[data-method="{method}"]'
    return user.driver.execute_script("return document.querySelector(arguments[0]).getAttribute('d')", selector)


def test_a_student_draws_a_lake_and_sees_methods_differ(user):
    user.open()
    cells = user.all(".grid button")
    user.choose("#speed", 10)
    user.click("#play")
    user.wait(lambda: user.update >= 5)
    early = curve(user, "success", "ift")
    user.wait(lambda: user.update >= 10)
    assert curve(user, "success", "ift") != early  # curves move
    cells[6].click()  # a hole becomes ice while it trains
    user.wait(lambda: "map=SFFFF/FFHHF/FFFGF" in user.driver.current_url)
    user.wait(lambda: len(user.all(".panel:first-child .hole")) == 2)
    assert user.update >= 10  # it goes on from the policies as they were
    user.wait(lambda: "changed on its way" in user.text("#keep"))
    user.click("#reset")
    user.wait(lambda: user.update == 0)
    before = {method: user.number(method, "success") for method in ("sft", "ift")}
    user.train()
    for method, success in before.items():
        assert user.number(method, "success") > success
    assert user.number("ift", "travelled") > user.number("sft", "travelled")
    headline = user.text("#headline")
    assert "Why sft and ift differ. SFT learns each step of the target by itself." in headline
    assert "times, not once" in headline  # the reason
    assert "times as far from the start" in user.text("#why")
    row, column = re.search(r"differ most in the marked cell \(row (\d), column (\d)\)", headline).groups()
    assert f"Row {row}, column {column}, where sft and ift differ most" in user.text("#inspector")
    user.click(".panel .hit")  # a cell that is clicked stays
    assert "Row 1, column 1, on the target's way" in user.text("#inspector")
    user.click("#widest")
    assert f"Row {row}, column {column}, where sft and ift differ most" in user.text("#inspector")
    assert user.complaints() == []


def test_an_impossible_lake_says_what_is_wrong_and_the_last_one_goes_on(user):
    user.open("#preset=ties")
    user.choose("#speed", 5)
    user.click("#play")
    user.wait(lambda: user.update >= 1)
    for cell in (1, 3):
        user.click(f'.grid [data-cell="{cell}"]')
    user.wait(lambda: "no goal can be reached" in user.text("#wrong"))
    now = user.update
    user.wait(lambda: user.update > now)
    user.click('.grid [data-cell="1"]')
    user.wait(lambda: user.text("#wrong") == "")
    assert user.complaints() == []


def test_a_lake_without_a_second_way_offers_a_start_that_needs_none(user):
    user.open()
    user.click('[data-tool="G"]')
    user.click('[data-cell="14"]')
    user.click('[data-cell="13"]')
    user.wait(lambda: "no second, longer way" in user.text("#wrong"))
    user.click("#noisy")
    user.wait(lambda: user.text("#wrong") == "" and "--start noisy" in user.text("#command"))
    user.train()
    assert "Why sft and ift differ." in user.text("#headline")
    assert user.complaints() == []


def test_the_url_brings_everything_back_and_nonsense_is_named(user):
    user.open("#preset=ties")
    user.choose("#protocol", "adam")
    user.click('[data-method="orpo"]')
    user.click("#slippery")
    user.choose("#shade", "visits")
    user.click('#axis input[value="travelled"]')
    user.one("#setting-lr").clear()
    user.one("#setting-lr").send_keys("0.01\t")
    user.wait(lambda: "lr=0.01" in user.driver.current_url and "orpo" in user.driver.current_url)
    fragment = "#" + user.driver.current_url.partition("#")[2]
    command = user.text("#command")
    user.wait(lambda: "--lr 0.01" in user.text("#command"))
    command = user.text("#command")
    user.open(fragment)
    user.wait(lambda: user.text("#command") == command)
    assert [panel.text.strip() for panel in user.all(".panel h3")] == ["sft", "ift", "dpo", "orpo"]
    assert user.one("#slippery").is_selected()
    assert user.one("#shade").get_property("value") == "visits"
    assert user.one('#axis input[value="travelled"]').is_selected()
    for nonsense, message in [
        ("#map=SXX&method=sft", "map must have"),
        ("#preset=nope", "preset 'nope' is unknown"),
        ("#foo=1", "'foo' is unknown"),
        ("#map=" + "F" * 1000, "map must be a text"),
        ("#seeds=1e9", "seeds must be"),
        ("#axis=sideways", "axis must be one of updates, travelled"),
        ("#speed=77", "speed must be one of"),
        ("#method=sft&method=<b>x</b>", "unknown"),
    ]:
        user.open(nonsense)
        user.wait(lambda message=message: message in user.text("#message"))
        assert len(user.all(".panel")) == 4  # the first preset
    assert user.complaints() == []


def test_the_copied_command_gives_the_numbers_on_the_page_and_save_writes_its_folder(user, tmp_path):
    user.open("#preset=order&")
    user.one("#setting-steps").clear()
    user.one("#setting-steps").send_keys("15\t")
    user.one("#setting-seeds").clear()
    user.one("#setting-seeds").send_keys("4\t")
    user.wait(lambda: "--seeds 4" in user.text("#command"))
    user.train()
    assert user.update == 15
    shown = {
        m: [user.number(m, n) for n in ("parameter distance", "policy distance", "success")]
        for m in ("sft", "orpo", "ift", "dpo")
    }
    user.driver.set_permissions("clipboard-read", "granted")
    user.click("#copy-command")
    user.wait(lambda: "is copied" in user.text("#keep"))
    copied = user.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    words = shlex.split(copied)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *words[1:], "--out", "by-hand"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    runs = pd.read_parquet(tmp_path / "by-hand" / "runs.parquet")
    means = runs.groupby("method")[["parameter_mse", "policy_mse", "success"]].mean()
    for method, (parameters, policies, success) in shown.items():
        assert parameters == pytest.approx(1000 * means.loc[method, "parameter_mse"], rel=1e-3)
        assert policies == pytest.approx(1000 * means.loc[method, "policy_mse"], rel=1e-3)
        assert success == pytest.approx(means.loc[method, "success"], abs=6e-4)
    user.click("#save")
    user.wait(lambda: "Written to results/" in user.text("#keep"), 60)
    folder = tmp_path / user.text("#keep").partition("Written to ")[2].split(",")[0]
    assert (folder / "runs.parquet").read_bytes() == (tmp_path / "by-hand" / "runs.parquet").read_bytes()
    assert user.complaints() == []


def test_pictures_and_a_replay_are_written_and_the_replay_plays_without_a_server(user, server, tmp_path):
    user.open("#preset=ties")
    user.train()
    for button, name in (("#picture-svg", "lake.svg"), ("#picture-png", "lake.png"), ("#replay", "lake.html")):
        user.click(button)
        user.wait(lambda name=name: (tmp_path / name).is_file())
    assert "<svg" in (tmp_path / "lake.svg").read_text()[:100]
    assert (tmp_path / "lake.png").read_bytes()[:4] == b"\x89PNG"
    assert user.complaints() == []
    server.processes[0].terminate()
    user.driver.get((tmp_path / "lake.html").as_uri())
    assert "update 0" in user.text("#transport")
    assert "Both ways round the hole" in user.text("#sentence")
    user.click("#transport button")
    user.wait(lambda: "update 100" in user.text("#transport"), 30)
    assert user.number("sft", "success") > 0.99
    user.click('#axis input[value="travelled"]')
    assert "distance travelled" in user.text("#curves .chart .axes")
    refused = "ERR_CONNECTION_REFUSED"  # of the page that was left when its server ended
    assert [line for line in user.complaints() if refused not in line] == []


def test_a_server_that_is_gone_is_said_and_its_return_is_noticed(user, server):
    user.open("#preset=ties")
    user.train()
    server.processes[0].kill()
    user.wait(lambda: "The server does not answer" in user.text("#message"))
    assert not user.one("#play").is_enabled()
    server.start()
    user.wait(lambda: "The server is back" in user.text("#message"), 30)
    user.wait(lambda: user.one("#play").is_enabled(), 30)
    user.train()
    assert user.update == 100
    assert [line for line in user.complaints() if "ERR_CONNECTION_REFUSED" not in line] == []
