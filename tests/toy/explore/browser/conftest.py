"""Somebody at the page in a real browser; needs chromium, its driver and selenium: `make test-browser`."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlparse

import pytest

ROOT = Path(__file__).parents[4]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WIDE = (1400, 1300)


class Server:
    """Servers of the page on one port, one after the other, each in a process of its own."""

    def __init__(self, folder, port):
        self.folder, self.port, self.processes = folder, port, []
        self.start()

    def start(self):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "toy.explore", "--port", str(self.port), "--no-browser"]
        self.processes.append(
            subprocess.Popen(command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, text=True)
        )
        assert "The lake is at" in self.processes[-1].stdout.readline()


@pytest.fixture
def server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = Server(tmp_path, port)
    yield there
    for process in there.processes:
        process.terminate()
        process.communicate(timeout=20)


class User:
    """Somebody at the page."""

    def __init__(self, driver, port):
        self.driver, self.address = driver, f"http://127.0.0.1:{port}/"

    def open(self, fragment=""):
        self.driver.get("about:blank")
        self.driver.get(self.address + fragment)
        self.wait(lambda: self.one("#play").is_enabled(), 30)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def text(self, selector):
        return self.driver.execute_script("return document.querySelector(arguments[0]).textContent", selector)

    def click(self, selector):
        self.driver.execute_script("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        self.one(selector).click()

    def choose(self, selector, value):
        self.click(f'{selector} option[value="{value}"]')

    def wait(self, holds, seconds=15):
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + seconds
        while True:
            try:  # parts of the page are not there yet, or drawn anew
                if holds():
                    return
            except WebDriverException:
                pass
            assert time.monotonic() < end, [self.text(part) for part in ("#message", "#wrong", "#count", "#keep")]
            time.sleep(0.05)

    @property
    def update(self):
        words = self.text("#count").split()
        return int(words[1]) if words[:1] == ["update"] else -1

    def number(self, method, name):
        """A number under a method's lake; read in one go, as the page draws them anew."""
        values = self.driver.execute_script(
            """const texts = (place, kind) => [...place.querySelectorAll(kind)].map((each) => each.textContent.trim());
            const panels = [...document.querySelectorAll(".panel")];
            const panel = panels.find((each) => texts(each, "h3")[0] === arguments[0]);
            const names = texts(panel, "dt");
            return Object.fromEntries(texts(panel, "dd").map((text, i) => [names[i], text]));""",
            method,
        )
        return float(values[name])

    def train(self, seconds=40):
        """Play to the end."""
        self.choose("#speed", 1000)
        before = self.update
        self.click("#play")
        self.wait(lambda: self.update > before)
        self.wait(lambda: "Play" in self.text("#play"), seconds)

    def complaints(self):
        """What the console complains about, and every request that left this machine."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]
        foreign = [url for url in sent if urlparse(url).hostname not in ("127.0.0.1", None)]
        return foreign + [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture
def user(server, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    if not CHROMIUM or not DRIVER:
        pytest.skip("chromium or chromedriver is not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={WIDE[0]},{WIDE[1]}"):
        options.add_argument(argument)
    prefs = {
        "download.default_directory": str(tmp_path),
        "profile.default_content_setting_values.automatic_downloads": 1,
    }
    options.add_experimental_option("prefs", prefs)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    someone = User(driver, server.port)
    yield someone
    driver.quit()
