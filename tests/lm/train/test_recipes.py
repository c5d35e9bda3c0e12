"""Values of a recipe that have another type than their option: refused, and never turned into text or numbers."""

import pytest

from lm.train.command_line import parse


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: [1.7, 2.2]", r"seeds must be whole numbers, got '\[1.7, 2.2\]'"),
        ("seeds: [true]", "seeds must be whole numbers"),
        ("seeds: a", "seeds must be whole numbers"),
        ("dataset: null", "dataset must be text, or a list of texts, got 'None'"),
        ("dataset: {a: b}", "dataset must be text, or a list of texts"),
        ("dataset: [[a, b]]", "dataset must be text, or a list of texts"),
        ("columns: {prompt: a}", "columns must be text, or a list of texts"),
        ("max_prompt_length: true", "max_prompt_length must be a whole number, got True"),
        ("learning_rate: true", "learning_rate must be a number, got True"),
        ("lam: 0.1\nseed: 3\nlam: 0.2", "'lam' is given twice"),
    ],
)
def test_a_value_of_another_type_is_refused(text, message, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        parse(["--config", str(file)])
    assert len(str(refused.value).splitlines()) == 1


def test_one_value_stands_for_a_list_of_one(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("seeds: 3\ndataset: lake:5\neval_dataset: []\n")
    settings = parse(["--config", str(file)])
    assert (settings.seeds, settings.dataset, settings.eval_dataset) == ((3,), ("lake:5",), ())
