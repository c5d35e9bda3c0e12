"""Former names of options."""

from dataclasses import dataclass, replace

import pytest

from common.renamed import takes_former_names, with_new_names


def test_former_names_become_new_ones_and_are_noted():
    notes = []
    given = {"a": 1, "old": 2}
    assert with_new_names(given, {"old": "new"}, notes.append) == {"a": 1, "new": 2}
    assert given == {"a": 1, "old": 2}
    assert notes == ["'old' is called 'new' now; the former name goes with the next version"]


@pytest.mark.parametrize("given", [{"old": 1, "new": 2}, {"new": 2, "old": 1}])
def test_both_names_are_refused(given):
    with pytest.raises(ValueError, match="new is given twice: 'old' is its former name"):
        with_new_names(given, {"old": "new"}, str)


def test_a_class_takes_former_names_and_stays_a_dataclass():
    @takes_former_names({"old": "new"})
    @dataclass(frozen=True)
    class Options:
        new: int = 0
        other: int = 0

    with pytest.warns(DeprecationWarning, match="the option 'old' is called 'new' now"):
        options = Options(old=3)
    assert options == Options(new=3) == Options(3)
    assert replace(options, other=1) == Options(3, 1)
    with pytest.raises(TypeError):
        Options(older=1)
