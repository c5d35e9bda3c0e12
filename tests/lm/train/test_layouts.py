"""Layouts that people's files come in: read alike, or refused with what was found and what is nearest."""

import gzip
import json
from functools import partial

import pyarrow
import pytest
from datasets import Dataset

from common.rows import rows_of
from lm.train import data, tokens

ASKED = [{"role": "user", "content": "1+1="}]
SAID = [{"role": "assistant", "content": "2"}]
CUT = tokens.Cut(200, 100)


def write(tmp_path, rows, name="rows.jsonl"):
    file = tmp_path / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def load(file, pairs=False, **options):
    return data.load((str(file),), pairs, 0, **options).to_list()


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "1+1=", "input": "", "output": "2"},
        {"instruction": "1+1=", "response": "2"},
        {"prompt": "1+1=", "response": "2"},
        {"question": "1+1=", "response": "2"},
        {"prompt": "1+1=", "completion": {"role": "assistant", "content": "2"}},
        {"prompt": {"role": "user", "content": "1+1="}, "completion": "2"},
        {"conversations": [{"from": "human", "value": "1+1="}, {"from": "gpt", "value": "2"}]},
        {"conversations": [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}]},
        {"messages": [{"from": "human", "value": "1+1="}, {"from": "gpt", "value": "2"}]},
        {"question": "1+1=", "chosen": "2", "rejected": "3"},
        {"conversations": [{"from": "human", "value": "1+1="}], "chosen": {"from": "gpt", "value": "2"},
         "rejected": {"from": "gpt", "value": "3"}},
        {"prompt": "1+1=", "chosen": {"role": "assistant", "content": "2"},
         "rejected": {"role": "assistant", "content": "3"}},
        {"prompt": "1+1=", "completion": "2", "label": True},
    ],
)  # fmt: skip
def test_every_layout_comes_to_the_same_conversation(row, tmp_path):
    assert load(write(tmp_path, [row])) == [{"prompt": ASKED, "completion": SAID}]


def test_alpacas_input_and_a_system_prompt_are_kept(tmp_path):
    (row,) = load(write(tmp_path, [{"system": "Be brief.", "instruction": "Add", "input": "1+1", "output": "2"}]))
    assert row["prompt"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Add\n\n1+1"}]


def test_plain_text_is_trained_as_a_whole(tokenizer, tmp_path):
    rows = data.load((write(tmp_path, [{"text": "one two"}]),), False, 0)
    encoded, counts = tokens.encode(rows, tokenizer, CUT)
    assert tokenizer.decode(encoded[0]["input_ids"]).replace(" ", "") == "onetwo<eos>"
    assert encoded[0]["labels"] == encoded[0]["input_ids"]
    assert counts.dropped == 0


def test_columns_are_named_by_hand(tmp_path):
    file = write(tmp_path, [{"problem": "1+1=", "solution": "2", "prompt": "no", "completion": "no", "label": "easy"}])
    columns = data.column_names(("prompt=problem", "completion=solution"))
    assert load(file, columns=columns) == [{"prompt": ASKED, "completion": SAID}]
    with pytest.raises(ValueError, match="there is no column 'probblem', its columns are problem, solution"):
        load(file, columns={"prompt": "probblem"})
    with pytest.raises(ValueError, match="columns must be OURS=THEIRS with OURS one of prompt, completion"):
        data.column_names(("question=problem",))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "a", "reply": "b"}, "its columns are query, reply; no layout has any of these: name them with"),
        ({"instruction": "a", "answer": "b"}, "the nearest layout is instruction.output, which needs output as well"),
        ({"prompt": "a", "chosen": "b"}, "nearest layout is prompt.chosen.rejected, which needs rejected"),
        ({"Prompt": "a", "Completion": "b"}, "needs prompt, completion as well: try --columns prompt=Prompt compl"),
        ({"conversation": [], "id": 1}, "the nearest layout is conversations, .*: try --columns messages=conversation"),
        ({"prompt": "a", "chosen": "b", "reject": "c"}, "--columns prompt=prompt chosen=chosen rejected=reject"),
        ({"Instruction": "a", "Input": "b", "Output": "c"}, "instruction.output, which needs instruction, output as"),
        ({"messages": ASKED}, "no row has a prompt and an answer .*; its columns are messages, read as messages"),
        ({"messages": "hello"}, "no row has a prompt and an answer"),
        ({"prompt": "a", "response": "", "id": 3}, "its columns are prompt, response, id, read as prompt.response"),
        ({"prompt": "a", "chosen": "b", "rejected": ""}, "read as chosen.rejected: name others with --columns"),
        ({"text": None}, "its columns are text, read as text"),
        ({"prompt": "a", "completion": "b", "label": "sports"}, "label must be true or false, got 'sports'"),
        ({"prompt": "a", "completion": ["b"]}, "row 1: completion: a message must have 'role'"),
        ({"prompt": "a", "completion": True}, "row 1: completion must be text or messages, got 'True'"),
        ({"conversations": [{"from": "alien", "value": "b"}]}, "nobody is called 'alien'"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "'role' and 'content' as text"),
        ({"conversations": [{"from": ["x"], "value": "b"}]}, r"row 1: conversations: nobody is called .*x"),
        ({"messages": [*ASKED, {"role": "assistant", "tool_calls": 7}]}, "row 1: messages: tool_calls must be a list"),
        ({"system": 5, "prompt": "a", "completion": "b"}, "row 1: system must be text, got 5"),
        ({"instruction": "a", "input": {"x": 1}, "output": "b"}, "row 1: input must be text, under an instruction"),
        ({"prompt": float("nan"), "completion": "b"}, "row 1: prompt must be text or messages, got the number nan"),
        ({"prompt": "a", "completion": float("inf")}, "row 1: completion must be text or .* got the number inf"),
    ],
)
def test_what_has_no_layout_is_refused_by_its_columns(row, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path, [row]), pairs="rejected" in row)


def test_a_number_is_its_text_also_as_input(tmp_path):
    (row,) = load(write(tmp_path, [{"instruction": "Double", "input": 21, "output": 42}]))
    assert (row["prompt"][0]["content"], row["completion"][0]["content"]) == ("Double\n\n21", "42")


def test_letters_beyond_16_bits_are_taken_from_their_two_halves(tmp_path):
    assert load(write(tmp_path, [{"prompt": "a", "completion": "😀"}]))[0]["completion"][0]["content"] == "😀"


@pytest.mark.parametrize("other", [{"messages": ASKED + SAID}, {"prompt": "a", "chosen": "b", "rejected": "c"}])
def test_rows_of_another_layout_are_refused(other, tmp_path):
    rows = [{"prompt": "1+1=", "completion": "2"}] * 2 + [other]
    with pytest.raises(ValueError, match=r"dataset .*rows.jsonl': row [13]: its columns are .*: give rows of each"):
        load(write(tmp_path, rows))


def test_unwanted_answers_are_left_out_and_counted(tmp_path):
    rows = [{"prompt": str(i), "completion": "b", "label": i % 4 > 0} for i in range(8)]
    notes = []
    kept = load(write(tmp_path, rows), note=notes.append)
    assert len(kept) == 6
    assert "2 answers with the label false are left out" in notes[0]
    labelled = load(write(tmp_path, rows), pairs=True, labels=True)
    assert sorted(row["label"] for row in labelled) == [False] * 2 + [True] * 6
    with pytest.raises(ValueError, match=r"the method needs pairs: .* or --method kto, which learns from labels"):
        load(write(tmp_path, rows), pairs=True)
    with pytest.raises(ValueError, match="has no answer with the label true"):
        load(write(tmp_path, rows[:1]))


def test_labelled_answers_become_ktos_tokens(tokenizer, tmp_path):
    rows = [{"prompt": "1+1=", "completion": "2", "label": True}, {"prompt": "1+1=", "completion": "3", "label": False}]
    loaded = data.load((write(tmp_path, rows),), True, 0, labels=True)
    encoded, counts = tokens.encode(loaded, tokenizer, CUT)
    assert set(encoded.column_names) == {"prompt_ids", "completion_ids", "label"}
    said = {tokenizer.decode(row["completion_ids"]).replace(" ", ""): row["label"] for row in encoded}
    assert said == {"2<eos>": True, "3<eos>": False}
    assert counts.answer_tokens == 4


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 1}}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ '<' + m.role + '>' + m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name + (c.function.arguments | tojson) }}{% endfor %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def with_template(tokenizer, template):
    from transformers import PreTrainedTokenizerFast

    copy = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token="<eos>", unk_token="<unk>")
    copy.chat_template = template
    return copy


@pytest.mark.parametrize("arguments", [{"a": 1, "b": 1}, '{"a": 1, "b": 1}'])
@pytest.mark.parametrize("sharegpt", [False, True])
def test_the_assistants_tool_call_carries_the_loss(arguments, sharegpt, tokenizer, tmp_path):
    call = {"type": "function", "function": {"name": "add", "arguments": arguments}}
    turns = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        *SAID,
    ]
    if sharegpt:
        turns = [{"from": "human", "value": "1+1="},
                 {"from": "function_call", "value": json.dumps({"name": "add", "arguments": arguments})},
                 {"from": "observation", "value": "2"}, {"from": "gpt", "value": "2"}]  # fmt: skip
    file = write(tmp_path, [{"messages": turns, "tools": TOOLS}, {"messages": ASKED + SAID}])
    rows = data.load((file,), False, 0)
    encoded, _ = tokens.encode(rows, with_template(tokenizer, TEMPLATE), CUT)
    written = [tokenizer.decode([i for i in row["labels"] if i != -100]).replace(" ", "") for row in encoded]
    expected = "add<unk><unk>a<unk><unk>1<unk><unk>b<unk><unk>1<unk><eos>2<eos>"
    assert sorted(written) == sorted([expected, "2<eos>"])


def test_a_template_without_tool_calls_is_refused(tokenizer, tmp_path):
    """By the name of the file, with the number of rows."""
    from lm.train.models import ZEPHYR

    called = {"messages": [*ASKED, {"role": "assistant", "tool_calls": [CALL]}]}
    pair = {"prompt": ASKED, "chosen": called["messages"][1:], "rejected": SAID}
    told = {"messages": ASKED + SAID, "tools": json.dumps(TOOLS)}
    good = write(tmp_path, [{"messages": ASKED + SAID}], "good.jsonl")
    for row, message in ((called, "tool calls"), (pair, "tool calls"), (told, "the column tools")):
        other = {"prompt": ASKED, "chosen": SAID, "rejected": SAID} if row is pair else {"messages": ASKED + SAID}
        files = ([] if row is pair else [good]) + [write(tmp_path, [row, other, row])]
        for template in (ZEPHYR.read_text(), None):
            check = partial(tokens.require_tools, tokenizer=with_template(tokenizer, template))
            with pytest.raises(ValueError, match=rf"rows.jsonl': .* leaves {message} out of 2 of 3 rows: take one"):
                data.load(tuple(files), row is pair, 0, check=check)
        check = partial(tokens.require_tools, tokenizer=with_template(tokenizer, TEMPLATE))
        assert len(data.load(tuple(files), row is pair, 0, check=check)) == 3 + len(files) - 1


@pytest.mark.parametrize(
    ("template", "message"),
    [("{% include 'x' %}", "no loader"), ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
     ("{{ raise_exception('No.') }}", "No."), ("{% if %}", "Expected")],
)  # fmt: skip
def test_a_template_that_fails_is_named(template, message, tokenizer):
    rows = Dataset.from_list([{"prompt": ASKED, "completion": SAID}])
    with pytest.raises(ValueError, match=f"the chat template refuses an example .*{message}.*see --chat-template"):
        tokens.encode(rows, with_template(tokenizer, template), CUT)


@pytest.mark.parametrize(
    ("template", "part"),
    [("{{ messages[-1].content }}", "prompt"), ("", "prompt"), ("always", "prompt"),
     ("{{ messages[0].content }}", "answer")],
)  # fmt: skip
def test_a_template_that_leaves_out_prompt_or_answer_is_named(template, part, tokenizer, tmp_path):
    check = partial(tokens.require_written, tokenizer=with_template(tokenizer, template))
    file = write(tmp_path, [{"messages": ASKED + SAID}, {"messages": SAID}])
    with pytest.raises(ValueError, match=f"rows.jsonl': the chat template leaves the {part} out of every row: take"):
        data.load((file,), False, 0, check=check)


def test_csv_and_tsv_keep_their_text(tmp_path):
    (tmp_path / "rows.csv").write_text('question,answer\n"two\nlines, one cell",007\n')
    (tmp_path / "rows.tsv").write_text("question\tanswer\na, b\t2.50\n")
    assert load(tmp_path / "rows.csv")[0]["completion"][0]["content"] == "007"
    assert load(tmp_path / "rows.csv")[0]["prompt"][0]["content"] == "two\nlines, one cell"
    assert load(tmp_path / "rows.tsv")[0]["completion"][0]["content"] == "2.50"


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2"])
def test_compressed_files_are_read(suffix, tmp_path):
    text = json.dumps({"prompt": "1+1=", "completion": "2"}).encode()
    file = tmp_path / f"rows.jsonl{suffix}"
    if suffix == ".gz":
        file.write_bytes(gzip.compress(text))
    else:
        with pyarrow.output_stream(str(file), compression={".zst": "zstd", ".bz2": "bz2"}[suffix]) as stream:
            stream.write(text)
    assert load(file) == [{"prompt": ASKED, "completion": SAID}]
    file.write_bytes(b"not compressed")
    with pytest.raises(ValueError, match="it cannot be read"):
        load(file)


@pytest.mark.parametrize("wrapped", [False, True])
def test_json_may_be_an_array_or_hold_one(wrapped, tmp_path):
    rows = [{"prompt": "1+1=", "completion": "2"}]
    (tmp_path / "rows.json").write_text(json.dumps({"data": rows} if wrapped else rows, indent=1))
    assert load(tmp_path / "rows.json") == [{"prompt": ASKED, "completion": SAID}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"prompt": "é", "completion": "b"}\n'.encode("latin-1"), "line 1 is not UTF-8 text"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt": ', "line 2 is not JSON"),
        ("a.jsonl", b'{"prompt": "a", "completion": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        ("a.jsonl", b'{"prompt": "a", "completion": "\\uD800"}', "line 1 has text that is not valid Unicode"),
        ("a.json", b'[{"prompt": "\\udc00", "completion": "a"}]', "the file has text that is not valid Unicode"),
        ("a.jsonl", b"[1]\n", "line 1 must be an object"),
        ("a.json", b"[1]\n", "row 1 must be an object"),
        ("a.json", b"3", "must hold an array of rows"),
        ("a.json", b"[]", "is empty: it has no rows"),
        ("a.csv", b"question,answer\n1,2,3\n", "line 2 has 3 cells, its header 2"),
        ("a.csv", b'question,answer\n"1,2\n', "line 2 cannot be read"),
        ("a.parquet", b"no", "it is no Parquet file"),
        ("a.csv", b"", "is empty"),
    ],
)
def test_a_broken_file_is_refused_by_its_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        load(tmp_path / name)
    assert "dataset" in str(refused.value)
    assert name in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_shares_make_the_largest_mix_without_a_row_twice(tmp_path):
    files = [write(tmp_path, [{"prompt": name + str(i), "completion": "b"} for i in range(count)], f"{name}.jsonl")
             for name, count in (("one", 100), ("two", 30))]  # fmt: skip
    notes = []
    rows = data.load((f"{files[0]}*0.25", f"{files[1]}*0.75"), False, 0, note=notes.append).to_list()
    asked = [row["prompt"][0]["content"][:3] for row in rows]
    assert (asked.count("one"), asked.count("two")) == (10, 30)
    assert len({row["prompt"][0]["content"] for row in rows}) == 40
    assert "10 of 100 rows, a share of 25.0%" in notes[0]
    with pytest.raises(ValueError, match=r"must have a .SHARE as well"):
        data.load((f"{files[0]}*0.25", files[1]), False, 0)
    with pytest.raises(ValueError, match="has no row in the mix"):
        data.load((f"{files[0]}*0.0001", f"{files[1]}*0.9"), False, 0)


def test_what_the_hub_has_is_read_alike(tmp_path, monkeypatch):
    rows = Dataset.from_list([{"instruction": "1+1=", "input": "", "output": "2", "more": 1}])
    monkeypatch.setattr(data, "load_dataset", lambda name, split: rows)
    assert load("somebody/alpaca") == [{"prompt": ASKED, "completion": SAID}]
    columns = {"prompt": "output", "completion": "instruction"}
    assert load("somebody/alpaca", columns=columns)[0]["completion"][0]["content"] == "1+1="


def test_rows_are_read_one_after_another(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n\nbroken')
    rows = rows_of(file)
    assert next(rows) == {"text": "a"}
