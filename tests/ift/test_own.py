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
def methods():
    """A registry of its own, so that no test sees another one's methods."""
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
        ("import sys; sys.exit(7)", "my_method.py:mine", r"the file ended Python \(SystemExit: 7\)"),
        ("import sys; sys.exit()", "my_method.py:mine", r"the file ended Python \(SystemExit\)"),
        ("raise GeneratorExit", "my_method.py:mine", "cannot be run: GeneratorExit"),
        ("def __getattr__(name): raise KeyError(name)", "my_method.py:mine", "cannot be run: KeyError: 'mine'"),
        (None, f"{'x' * 300}.py:mine", "the file cannot be read"),
        (None, "my_method.txt:mine", "names no Python file"),
    ],
)
def test_what_is_no_method_is_refused_by_name(methods, tmp_path, text, reference, message):
    write(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        methods.add_file(str(tmp_path / reference))
    assert list(methods) == ["sft"]


def test_an_interrupt_while_a_file_runs_is_an_interrupt(methods, tmp_path):
    path = write(tmp_path, "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        methods.add_file(f"{path}:mine")


@pytest.mark.parametrize("path", ["~nosuchuser_at_all/m.py", "loop.py"])
def test_a_path_that_leads_nowhere_is_refused_by_name(methods, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.py").symlink_to("loop.py")
    with pytest.raises(ValueError, match=f"method '{path}:mine': "):
        methods.add_file(f"{path}:mine")


@pytest.mark.parametrize(
    ("words", "those"),
    [
        (["--method", "a", "b", "--out", "c", "--method=d", "e"], ["a", "b", "--method=d"]),
        (["a", "--out=b", "--methods", "c", "--method", "--out", "d"], []),
        (["--method", "a", "-h", "b"], ["a"]),
    ],
)
def test_only_the_words_of_its_option_may_name_a_file(methods, words, those):
    assert methods.words_of_option(words) == those


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"mine", "Mine"', 'None, "Mine"', "has the name None"),
        ('"mine", "Mine"', '"mine", 5', "title must be a text, got 5"),
        ('colour="#882255"', "colour=None", "colour must be a text, got None"),
        ('"targets", mine_loss', '["targets"], mine_loss', r"learns_from must be one of .*, got \['targets'\]"),
        ('"targets", mine_loss', '"targets", None', "loss must be a Python function"),
        ('"targets", mine_loss', '"targets", max', "loss must be a Python function"),
        ('colour="#882255"', 'states="nix"', "states must be one of .*, got 'nix'"),
        ('colour="#882255"', "states=[]", "states must be one of"),
        ('colour="#882255"', 'reads="policy"', "reads must be a tuple of policy"),
        ('colour="#882255"', "alone=3", "alone must be a function or None"),
        ('colour="#882255"', "unpaired=None", "unpaired must be True or False"),
        ('(ift.Number("power", "the power", 1.0, 1.0, above_low=True),)', "(5,)", "numbers must be a tuple of ift.Num"),
        ('(ift.Number("power", "the power", 1.0, 1.0, above_low=True),)', "'abc'", "numbers must be a tuple"),
        ('(ift.Number("power", "the power", 1.0, 1.0, above_low=True),)', "None", "numbers must be a tuple"),
        ('"the power", 1.0', '"the power", "x"', "number 'power': lake must be a number, got 'x'"),
        ('"the power", 1.0', '"the power", None', "number 'power': lake must be a number, got None"),
        ('"the power"', "3", "number 'power': help must be a text, got 3"),
        ('"power"', "5", "its number 5 must be a word"),
        ('"power"', '"lambda"', "its number 'lambda' must be a word"),
    ],
)
def test_a_part_of_another_type_is_refused_by_name(methods, tmp_path, old, new, message):
    text = GOOD.replace("{name}", "mine")
    assert old in text
    with pytest.raises(ValueError, match=f"^method .*{message}"):
        methods.add_file(f"{write(tmp_path, text.replace(old, new))}:mine")
    assert list(methods) == ["sft"]


def test_a_process_that_is_started_knows_the_files_of_its_parent(methods, tmp_path):
    """As the workers of a sweep are started: the environment says which files are to be read."""
    methods.add_file(f"{write(tmp_path)}:mine")
    code = "import ift; print('mine' in ift.METHODS)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


def test_an_environment_that_lists_no_methods_is_one_line(monkeypatch):
    monkeypatch.setenv("IFT_METHODS", "gibberish")
    done = subprocess.run([sys.executable, "-c", "import ift"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.startswith("note: IFT_METHODS in the environment is no list of methods: method 'gibberish'")
    assert done.stderr.count("\n") == 1


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
