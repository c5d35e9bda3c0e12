"""Methods of files and of installed packages, and what is refused of them."""

import subprocess
import sys
import textwrap

import pytest

import ift
from ift import own

GOOD = """
import ift
def mine_loss(log_probs, mask, power):
    return ift.masked_mean(-(power * log_probs).exp(), mask)
mine = ift.Method("{name}", "Mine", "it is mine", "targets", mine_loss,
                  (ift.Number("power", "the power", 1.0, 1.0, above_low=True),), colour="#882255")
other = 3
"""


@pytest.fixture
def methods(monkeypatch):
    """A registry of its own, so that no test sees another one's methods."""
    monkeypatch.setenv("IFT_METHODS", "")
    return own.Methods([ift.METHODS["sft"]])


def write(folder, text=None, name="mine", file="my_method.py"):
    path = folder / file
    path.write_text(text or GOOD.replace("{name}", name))
    return path


def test_a_file_is_known_by_its_values_name(methods, tmp_path):
    path = write(tmp_path)
    assert methods.add_file(f"{path}:mine") == methods.add_file(f"{path}:mine") == "mine"
    assert list(methods) == ["sft", "mine"]
    assert methods["mine"].loss_numbers == ("power",)
    assert methods.from_outside(["sft", "mine"])["origins"]["mine"].startswith("my_method.py:mine sha256 ")
    assert methods.from_outside(["sft"]) == {}


def test_words_name_files_in_lists_and_variants(methods, tmp_path):
    path = write(tmp_path)
    assert methods.named_in(f"sft,{path}:mine") == "sft,mine"
    assert methods.named_in(f"{path}:mine:power=2") == "mine:power=2"
    assert methods.named_in(f"--method={path}:mine") == "--method=mine"
    assert methods.named_in("ift:lam=0") == "ift:lam=0"
    spaced = tmp_path / "my methods"
    spaced.mkdir()
    assert methods.named_in(f"{write(spaced, name='apart')}:mine") == "apart"


@pytest.mark.parametrize(
    ("text", "reference", "message"),
    [
        (None, "nothing.py:mine", "there is no file"),
        (None, "my_method.py:yours", r"the file has no 'yours' \(methods in it: mine\)"),
        (None, "my_method.py:other", "is a int: it must be an ift.Method"),
        ("import nothing_like_it", "my_method.py:mine", "cannot be run: ModuleNotFoundError"),
        ("def (", "my_method.py:mine", "cannot be run: SyntaxError"),
        (GOOD.replace("{name}", "sft"), "my_method.py:mine", "has the name 'sft', which another method has"),
        (GOOD.replace("{name}", "My method"), "my_method.py:mine", "it must be a word of small letters"),
        (GOOD.replace("{name}", "all"), "my_method.py:mine", "not all, start or optimum"),
        (GOOD.replace("{name}", "mine").replace("#882255", "red"), "my_method.py:mine", "colour must be #rrggbb"),
    ],
)
def test_what_is_no_method_is_refused_by_name(methods, tmp_path, text, reference, message):
    write(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        methods.named_in(str(tmp_path / reference))
    assert list(methods) == ["sft"]


def test_a_process_that_is_started_knows_the_files_of_its_parent(methods, tmp_path):
    """As the workers of a sweep are started: the environment says which files are to be read."""
    methods.add_file(f"{write(tmp_path)}:mine")
    code = "import ift; print('mine' in ift.METHODS)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


def test_an_installed_packages_method_is_known_and_a_broken_one_leaves_the_others(tmp_path):
    (tmp_path / "their_package.py").write_text(GOOD.replace("{name}", "theirs"))
    metadata = tmp_path / "their_package-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(
        "[ift.methods]\ntheirs = their_package:mine\nbroken = their_package:nothing\n"
    )
    code = f"""
    import sys
    sys.path.append({str(tmp_path)!r})
    import ift
    print(ift.METHODS.from_outside(ift.METHODS), list(ift.METHODS)[-1], ift.method_names("theirs"))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.stdout == "{'origins': {'theirs': 'their-package 1.2'}} theirs ('theirs',)\n"
    assert "note: the method 'broken' of their-package is left out: AttributeError" in done.stderr
