"""Any layout to one form, any template to tokens, nothing lost without being counted."""

import json

import pytest
from datasets import Dataset, load_dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from lm.lake import make_tokenizer
from lm.train import data, tokens
from lm.train.models import ZEPHYR

CUT = tokens.Cut(64, 32)


def test_words_that_the_tokenizer_does_not_know_are_counted(tmp_path):
    file = write(tmp_path, [{"prompt": "S F G", "completion": "right 7 8"}, {"prompt": "9", "completion": "right"}])
    tokenizer = make_tokenizer()
    _, counts = tokens.encode(data.load((file,), False, 0), tokenizer, CUT)
    assert counts.unknown == 3
    assert str(counts).endswith("; unknown to the tokenizer: 3 tokens")
    pairs = write(tmp_path, [{"prompt": "S F G", "chosen": "7", "rejected": "8"}])
    with pytest.raises(ValueError, match=r"same tokens in 1, and 2 tokens are unknown to the tokenizer: take a model"):
        tokens.encode(data.load((pairs,), True, 0), tokenizer, CUT)


def test_a_folder_may_have_the_name_of_a_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody").mkdir()
    write(tmp_path / "~nobody", [{"prompt": "1+1=", "completion": "2"}])
    data.load(("~nobody/rows.jsonl",), False, 0).to_pandas().to_parquet(tmp_path / "~nobody" / "rows.parquet")
    for name in ("~nobody/rows.jsonl", "~nobody/rows.parquet"):
        assert len(data.load((name,), False, 0)) == 1


def test_a_share_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"dataset 'a.jsonl\*x' must be NAME.* \*SHARE, a number above 0"):
        data.Source.of("a.jsonl*x")


def write(tmp_path, rows, name="rows.jsonl"):
    file = tmp_path / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def said(text):
    return [{"role": "assistant", "content": text}]


def asked(text):
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "1+1=", "completion": "2"},
        {"prompt": asked("1+1="), "completion": said("2")},
        {"messages": asked("1+1=") + said("2")},
        {"question": "1+1=", "answer": "2"},
        {"question": "1+1=", "answer": 2},
        {"prompt": "1+1=", "chosen": "2", "rejected": "3"},
        {"prompt": "1+1=", "chosen": asked("1+1=") + said("2"), "rejected": asked("1+1=") + said("3")},
        {"prompt": "1+1=", "chosen": said("2"), "rejected": said("3"), "messages": said("2"), "score_chosen": 9.0},
    ],
)
def test_every_layout_comes_to_the_same_conversation(row, tmp_path):
    rows = data.load((write(tmp_path, [row]),), pairs=False, seed=0)
    assert rows.to_list() == [{"prompt": asked("1+1="), "completion": said("2")}]
    if "rejected" in row:
        pairs = data.load((write(tmp_path, [row]),), pairs=True, seed=0)
        assert pairs.to_list() == [{"prompt": asked("1+1="), "chosen": said("2"), "rejected": said("3")}]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.csv", "rows.parquet"])
def test_every_file_format_is_read(name, tmp_path):
    rows = Dataset.from_list([{"question": f"{i}+1=", "answer": str(i + 1)} for i in range(5)])
    path = str(tmp_path / name)
    {"json": rows.to_json, "jsonl": rows.to_json, "csv": rows.to_csv, "parquet": rows.to_parquet}[name[5:]](path)
    assert len(data.load((path,), pairs=False, seed=0)) == 5


def test_folders_in_hub_layout_are_read_by_split(tmp_path):
    (tmp_path / "set" / "data").mkdir(parents=True)
    for split, count in (("train_prefs", 3), ("test_prefs", 2)):
        Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * count).to_parquet(
            tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet"
        )
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - {split: train_prefs, path: data/train_prefs-*}\n  - {split: test_prefs, path: data/test_prefs-*}\n---\n"
    )
    assert len(data.load((f"{tmp_path / 'set'}@train_prefs",), pairs=True, seed=0)) == 3
    with pytest.raises(ValueError, match="Unknown split"):
        data.load((f"{tmp_path / 'set'}@train",), pairs=True, seed=0)


def test_the_papers_sets_are_mapped_from_their_hub_columns(tmp_path, monkeypatch):
    turns = asked("hi") + said("hello") + asked("bye") + said("see you")
    chat = [{"prompt": "hi", "prompt_id": "x", "messages": turns}] * 50
    pair = {"prompt": "hi", "prompt_id": "x", "chosen": asked("hi") + said("hello"), "score_chosen": 8.0,
            "rejected": asked("hi") + said("no"), "score_rejected": 2.0, "messages": turns[:2]}  # fmt: skip
    files = {"ultrachat": write(tmp_path, chat, "chat.jsonl"), "ultrafeedback": write(tmp_path, [pair] * 9, "p.jsonl")}
    called = []

    def local(name, split, **_):
        called.append((name, split))
        return load_dataset("json", data_files=files["ultrachat" if "ultrachat" in name else "ultrafeedback"])["train"]

    monkeypatch.setattr("lm.train.data.load_dataset", local)
    rows = data.load(("ultrachat:20", "ultrafeedback"), pairs=False, seed=0).to_list()
    assert called == [("HuggingFaceH4/ultrachat_200k", "train_sft"),
                      ("HuggingFaceH4/ultrafeedback_binarized", "train_prefs")]  # fmt: skip
    assert len(rows) == 29
    assert sum(row["completion"] == said("hello") for row in rows) == 9
    assert {"prompt": asked("hi"), "completion": turns[1:]} in rows


def test_the_draw_and_the_mix_follow_the_seed(tmp_path):
    file = write(tmp_path, [{"question": str(i), "answer": str(i)} for i in range(100)])
    draws = [data.load((f"{file}:10", "lake:5"), pairs=False, seed=seed).to_list() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(draws[0]) == 15
    with pytest.raises(ValueError, match="has 100 rows, 101 were asked for"):
        data.load((f"{file}:101",), pairs=False, seed=0)


def encoded(row, tokenizer, cut=CUT):
    rows, counts = tokens.encode(Dataset.from_list([row]), tokenizer, cut)
    return rows[0], counts


def labelled(row, tokenizer):
    return tokenizer.decode([token for token in row["labels"] if token != -100])


def test_answers_alone_carry_labels_and_end_with_eos(tokenizer):
    row, counts = encoded({"prompt": asked("1+1="), "completion": said("2")}, tokenizer)
    assert tokenizer.decode(row["input_ids"]).replace(" ", "") == "1+1=2<eos>"
    assert labelled(row, tokenizer).replace(" ", "") == "2<eos>"
    assert (counts.kept, counts.dropped, counts.tokens, counts.answer_tokens) == (1, 0, 6, 2)


def test_every_assistant_turn_carries_labels_and_no_other():
    tokenizer = make_tokenizer()
    turns = asked("S F") + said("left") + asked("F G") + said("up down")
    row, _ = encoded({"prompt": turns[:1], "completion": turns[1:]}, tokenizer)
    assert labelled(row, tokenizer).split() == ["left", "<eos>", "up", "down", "<eos>"]
    assert tokenizer.decode(row["input_ids"]).split().count("<|assistant|>") == 2


def zephyr(tokenizer):
    copy = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token="<eos>", pad_token="<pad>")
    copy.chat_template = ZEPHYR.read_text()
    return copy


def test_zephyrs_template_is_the_papers(tokenizer):
    text = zephyr(tokenizer).apply_chat_template(asked("a") + said("b"), tokenize=False)
    assert text == "<|system|>\n<eos>\n<|user|>\na<eos>\n<|assistant|>\nb<eos>\n"
    with_system = [{"role": "system", "content": "s"}, *asked("a")]
    text = zephyr(tokenizer).apply_chat_template(with_system, tokenize=False, add_generation_prompt=True)
    assert text == "<|system|>\ns<eos>\n<|user|>\na<eos>\n<|assistant|>\n"


def test_long_prompts_lose_their_beginning_and_long_answers_their_end(tokenizer):
    row, counts = encoded({"prompt": asked("abcdefgh"), "completion": said("12345")}, tokenizer, tokens.Cut(6, 4))
    assert tokenizer.decode(row["input_ids"]).replace(" ", "") == "efgh12"
    assert labelled(row, tokenizer).replace(" ", "") == "12"
    assert (counts.prompts_cut, counts.answers_cut, counts.dropped) == (1, 1, 0)
    pair = {"prompt": asked("abcdefgh"), "chosen": said("12345"), "rejected": said("9")}
    row, counts = encoded(pair, tokenizer, tokens.Cut(6, 4))
    texts = [tokenizer.decode(row[name]).replace(" ", "") for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    assert texts == ["efgh", "12", "9<eos>"]
    assert (counts.prompts_cut, counts.answers_cut) == (1, 1)


def test_what_has_no_answer_is_dropped_and_counted(tokenizer):
    rows = [{"prompt": asked("a"), "completion": said(answer)} for answer in ("", "b", "")]
    kept, counts = tokens.encode(Dataset.from_list(rows), tokenizer, CUT)
    assert (len(kept), counts.kept, counts.dropped) == (1, 1, 2)
    assert "dropped without prompt or answer: 2" in str(counts)


def test_pairs_of_equal_answers_are_dropped_and_counted(tokenizer):
    pairs = [("1", "2"), ("3", "3"), ("4" * 70 + "5", "4" * 70 + "6"), ("", "2")]
    rows = [{"prompt": asked("1+1="), "chosen": said(chosen), "rejected": said(other)} for chosen, other in pairs]
    whole, counts = tokens.encode(Dataset.from_list(rows), tokenizer, CUT)
    assert (len(whole), counts.kept, counts.dropped, counts.alike) == (1, 1, 1, 2)
    assert "dropped without prompt or answer: 1, as chosen and rejected are the same: 2" in str(counts)
    with pytest.raises(ValueError, match=r"left of 2 examples: chosen and rejected are the same in 2 up to max_length"):
        tokens.encode(Dataset.from_list(rows[1:3]), tokenizer, CUT)


@given(st.text("ab ", max_size=20), st.text("ab ", min_size=1, max_size=20), st.integers(2, 20), st.integers(1, 19))
def test_no_example_is_longer_than_allowed_and_the_prompt_keeps_its_end(tokenizer, prompt, answer, longest, room):
    cut = tokens.Cut(longest, min(room, longest - 1))
    row = tokens._encode_single({"prompt": asked(prompt), "completion": said(answer)}, tokenizer, cut)
    whole = tokenizer(prompt + answer + "<eos>")["input_ids"]
    asked_tokens = sum(label == -100 for label in row["labels"])
    assert asked_tokens == min(len(prompt), cut.max_prompt_length)
    assert row["input_ids"] == whole[len(prompt) - asked_tokens :][:longest]
    assert row["answer_cut"] == (len(whole) - len(prompt) + asked_tokens > longest)


def test_a_source_is_a_name_a_split_and_rows():
    assert data.Source.of("org/name@train_sft:60000") == data.Source("org/name", "train_sft", 60000)
    assert data.Source.of("lake:5") == data.Source("lake", None, 5)
    assert data.Source.of("a\nb/c.jsonl") == data.Source("a\nb/c.jsonl", None, None)
    assert data.Source.of("a/b.jsonl") == data.Source("a/b.jsonl", None, None)
    with pytest.raises(ValueError, match="must be NAME"):
        data.Source.of("lake:0")
