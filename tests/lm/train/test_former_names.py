"""The former names of IFT's options work for one version, on every way in, with a note."""

import json

import pytest

from lm import IFTConfig
from lm.train import run_folder
from lm.train.command_line import parse
from lm.train.settings import TrainSettings
from lm.trainers.names import NEW_NAMES

VALUES = {"propagation": "sum", "propagation_source": "mask", "propagation_norm": "L2", "propagation_side": "right"}


def test_all_four_are_known():
    assert NEW_NAMES.keys() == VALUES.keys()
    assert tuple(NEW_NAMES.values()) == ("form", "source", "norm", "side")


@pytest.mark.parametrize(("former", "value"), VALUES.items())
def test_every_way_in_takes_the_former_name(former, value, tmp_path, capsys):
    new = NEW_NAMES[former]
    flag = f"--{former.replace('_', '-')}"
    for words in ([flag, value], [f"{flag}={value}"], [f"--{former}", value]):
        assert getattr(parse(words), new) == value
        assert f"is called --{new} now" in capsys.readouterr().err
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{former}: {value}\n")
    assert getattr(parse(["--config", str(recipe)]), new) == value
    assert f"note: config '{recipe}': '{former}' is called '{new}' now" in capsys.readouterr().err
    for kind, options in (
        (TrainSettings, {}),
        (IFTConfig, {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False}),
    ):
        with pytest.warns(DeprecationWarning, match=f"'{former}' is called '{new}' now"):
            assert getattr(kind(**options, **{former: value}), new) == value


def test_both_names_at_once_are_refused(tmp_path):
    with pytest.raises(ValueError, match="form is given twice: 'propagation' is its former name"):
        TrainSettings(propagation="sum", form="sum")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("form: sum\npropagation: product\n")
    with pytest.raises(ValueError, match="form is given twice"):
        parse(["--config", str(recipe)])


def test_a_run_of_the_last_version_is_gone_on_with(tmp_path):
    settings = TrainSettings(resume=True, form="sum")
    described = run_folder.describe(settings)
    former = {new: name for name, new in NEW_NAMES.items()}
    described["settings"] = {former.get(name, name): value for name, value in described["settings"].items()}
    (tmp_path / "settings.json").write_text(json.dumps(described))
    assert run_folder.check(tmp_path, settings) is not None
    with pytest.raises(ValueError, match="form was 'sum', is 'product'"):
        run_folder.check(tmp_path, TrainSettings(resume=True))
