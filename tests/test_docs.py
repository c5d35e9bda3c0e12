"""What the pages name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["docs/method.md"])
def test_every_test_that_a_page_names_exists(page):
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", (ROOT / page).read_text())
    assert len(named) > 15
    for file, test in named:
        assert f"\ndef {test}(" in (ROOT / file).read_text(), f"{page} names {file}::{test}"
