"""Data sets from the lake, the Hub or local files, brought to one form and mixed, by count or by share.

`lm.train.layouts` has the form, and `lm.train.tokens` turns it into tokens.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Json, Value, concatenate_datasets, load_dataset

from common.rows import FORMATS, first_line, format_of, rows_of
from lm.lake import KINDS, SPLITS, examples
from lm.train.layouts import COLUMNS, BadRowError, Converter, Row, Wanted, converter, is_whole, renamed, require_layout


@dataclass(frozen=True)
class Source:
    """A data set as asked for: `name`, then `@split`, `:rows` and `*share`, each of them if it is wanted."""

    name: str
    split: str | None
    rows: int | None
    share: float | None = None

    @classmethod
    def of(cls, text: str) -> "Source":
        match = re.fullmatch(r"(.+?)(?:@([\w.-]+))?(?::(\d+))?(?:\*([^*/\\]*))?", text, re.DOTALL)
        share = None if match is None or match[4] is None else _share(match[4])
        if match is None or match[3] == "0" or share == 0 or re.search(r":[^/\\]*$", match[1]):
            raise ValueError(
                f"dataset {text[:200]!r} must be NAME, NAME:ROWS, NAME@SPLIT or NAME@SPLIT:ROWS, ROWS a number above "
                "0; *SHARE, a number above 0, may stand behind it"
            )
        return cls(match[1], match[2], None if match[3] is None else int(match[3]), share)


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


@dataclass(frozen=True)
class OnHub:
    """A data set of the paper: where it is, and its rows, for estimates without network."""

    name: str
    split: str
    rows: int


LAKE_ROWS = 1024  # if no number is given
NAMED = {
    "ultrachat": OnHub("HuggingFaceH4/ultrachat_200k", "train_sft", 207_865),
    "ultrafeedback": OnHub("HuggingFaceH4/ultrafeedback_binarized", "train_prefs", 61_135),
}
_FORM = Features(
    {name: Json() for name in ("prompt", "completion", "chosen", "rejected", "tools")} | {"label": Value("bool")}
)
_CHUNK = 10_000  # rows that are Python's at a time


def load(
    sources: tuple[str, ...],
    pairs: bool,
    seed: int,
    split: str = "train",
    *,
    labels: bool = False,
    columns: Mapping[str, str] | None = None,
    note: Callable[[str], Any] = lambda line: None,
    check: Callable[[Dataset], Any] = lambda rows: None,
) -> Dataset:
    """Conversations of all sources, each shuffled and cut to its rows, mixed; `pairs` keeps chosen and rejected.

    `labels` takes single answers with a label as well, for methods that learn from them. `columns` maps our names of
    columns to those of the sources. `note` gets a line on what was left out, `check` the rows of each source: its
    `ValueError` is raised with the source's name.

    Raises:
        ValueError: a data set that is not there, has other columns, is empty, or has single answers where pairs
            are needed.
    """
    asked = [Source.of(text) for text in sources]
    wanted: Wanted = "labels" if labels else "pairs" if pairs else "targets"
    parts = [_part(source, wanted, seed, split, columns or {}, note) for source in asked]
    parts = _mixed(asked, parts, note)
    for source, part in zip(asked, parts, strict=True):
        try:
            check(part)
        except ValueError as error:
            raise ValueError(f"dataset {source.name[:200]!r}: {error}") from error
    whole = concatenate_datasets(parts).shuffle(seed=seed)
    empty = [name for name in whole.column_names if all(value is None for value in whole.with_format(None)[name])]
    whole = whole.remove_columns([name for name in empty if name in ("chosen", "rejected", "tools", "label")])
    if "rejected" in whole.column_names:
        if "label" in whole.column_names:
            raise ValueError("dataset: pairs and answers with labels cannot be mixed: train on one kind at a time")
        whole = whole.remove_columns("completion")
    return whole


def _part(
    source: Source, wanted: Wanted, seed: int, split: str, columns: Mapping[str, str], note: Callable[[str], Any]
) -> Dataset:
    """A source in the one form, shuffled and cut to its rows."""
    try:
        rows = _converted(source, wanted, seed, split, columns)
    except (BadRowError, ValueError) as error:
        raise ValueError(f"dataset {source.name[:200]!r}: {_first_line(error)}") from error
    if not len(rows):
        raise ValueError(f"dataset {source.name!r} is empty: it has no rows")
    if wanted == "targets":
        kept = rows.filter(lambda label: label is not False, input_columns="label")
        if len(kept) < len(rows):
            note(f"{source.name}: {len(rows) - len(kept):,} answers with the label false are left out")
        if not len(kept):
            raise ValueError(f"dataset {source.name!r} has no answer with the label true")
        rows = kept.remove_columns("label").add_column("label", [None] * len(kept), feature=Value("bool"))
    if source.rows is not None and source.rows > len(rows):
        raise ValueError(f"dataset {source.name!r} has {len(rows)} rows, {source.rows} were asked for")
    return rows.shuffle(seed=seed).select(range(source.rows or len(rows)))


def _converted(source: Source, wanted: Wanted, seed: int, split: str, columns: Mapping[str, str]) -> Dataset:
    if source.name in KINDS:
        return _from_rows(_lake(source, seed, split), wanted, {})
    if format_of(source.name) is not None:
        if source.split is not None:
            raise ValueError("a file has no splits: leave @ away")
        return _from_rows(rows_of(Path(source.name)), wanted, columns)
    rows = _of_hub(source)
    names = _checked(columns, rows.column_names) or rows.column_names
    reader = converter(names, wanted)
    convert = reader.convert
    formed = rows.map(lambda row: convert(renamed(row, columns)), remove_columns=rows.column_names, features=_FORM)
    return _with_answers(formed, names, reader)


def _lake(source: Source, seed: int, split: str) -> list[Row]:
    if source.split not in (None, *SPLITS):
        raise ValueError(f"it has the splits {', '.join(SPLITS)}, not {source.split!r}")
    rows = examples(source.rows or LAKE_ROWS, source.split or split, seed, **KINDS[source.name])
    return [{name: value for name, value in row.items() if name != "worse"} for row in rows]


def _checked(columns: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Our names of the columns, if every one of theirs is there."""
    renamed(dict.fromkeys(names), columns)
    return list(columns)


def _from_rows(rows: Iterable[Row], wanted: Wanted, columns: Mapping[str, str]) -> Dataset:
    """Rows in the one form, held in memory; the first chunk says what the columns are."""
    remaining, parts, number = iter(rows), [], 0
    reader = None
    while chunk := list(islice(remaining, _CHUNK)):
        if reader is None:
            names = list(dict.fromkeys(name for row in chunk for name, value in row.items() if value is not None))
            names = _checked(columns, names) or names or list(chunk[0])
            reader = converter(names, wanted)
        formed = []
        for row in chunk:
            number += 1
            try:
                if not columns:
                    require_layout(row, reader)
                formed.append(reader.convert(renamed(dict.fromkeys(columns.values()) | dict(row), columns)))
            except BadRowError as error:
                raise BadRowError(f"row {number}: {error}") from error
        parts.append(Dataset.from_list(formed, features=_FORM))
    if reader is None:
        return Dataset.from_dict({name: [] for name in _FORM}, features=_FORM)
    return _with_answers(concatenate_datasets(parts), names, reader)


def _with_answers(rows: Dataset, names: Sequence[str], reader: Converter) -> Dataset:
    """The rows; raises `ValueError` if not one of them has a prompt and an answer."""
    if len(rows) and not any(map(is_whole, rows)):
        raise ValueError(
            f"no row has a prompt and an answer of the assistant behind it; its columns are {', '.join(names)}, read "
            f"as {'+'.join(reader.layout)}: name others with --columns"
        )
    return rows


def _of_hub(source: Source) -> Dataset:
    named = NAMED.get(source.name)
    name, wanted = (named.name, named.split) if named else (source.name, "train")
    try:
        return load_dataset(name, split=source.split or wanted)
    except Exception as error:  # the network, the Hub and the readers each have their own
        known = ", ".join([*KINDS, *NAMED])
        raise ValueError(
            f"it could not be read ({_first_line(error)}): name a local {', '.join(FORMATS)} file (also .gz, .zst or "
            f".bz2), a data set of the Hub, or one of {known}"
        ) from error


def _first_line(error: Exception) -> str:
    if not isinstance(error, BadRowError):
        while error.__cause__ is not None and type(error) is not ValueError:  # where it began says most
            error = error.__cause__  # type: ignore[assignment]
    return first_line(error, 600)


def _mixed(sources: Sequence[Source], parts: list[Dataset], note: Callable[[str], Any]) -> list[Dataset]:
    """Each part cut to its share of the mix, which is as large as it can be without a row twice."""
    counts = mixed_counts(sources, [len(part) for part in parts])
    for source, part, count in zip(sources, parts, counts, strict=True):
        if source.share is not None:
            note(f"{source.name}: {count:,} of {len(part):,} rows, a share of {count / sum(counts):.1%}")
    return [part.select(range(count)) for part, count in zip(parts, counts, strict=True)]


def mixed_counts(sources: Sequence[Source], sizes: Sequence[int]) -> list[int]:
    """Rows of each source, of which there are `sizes`; raises `ValueError` where only some have a share."""
    shares = [source.share for source in sources if source.share is not None]
    if not shares:
        return list(sizes)
    if len(shares) < len(sources):
        name = next(source.name for source in sources if source.share is None)
        raise ValueError(f"dataset {name!r} must have a *SHARE as well: give one to every data set, or to none")
    whole = min(size * sum(shares) / share for size, share in zip(sizes, shares, strict=True))
    counts = [math.floor(whole * share / sum(shares) + 1e-9) for share in shares]
    for source, count in zip(sources, counts, strict=True):
        if not count:
            raise ValueError(f"dataset {source.name!r} has no row in the mix: its share {source.share:g} is too small")
    return counts


def column_names(pairs: Sequence[str]) -> dict[str, str]:
    """`OURS=THEIRS` pairs as a map; raises `ValueError` for another form or a name that is none of ours."""
    columns: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs or ours not in COLUMNS:
            raise ValueError(f"columns must be OURS=THEIRS with OURS one of {', '.join(COLUMNS)}; got {pair[:200]!r}")
        if ours in columns:
            raise ValueError(f"columns: {ours!r} is given twice, as {columns[ours][:200]!r} and as {theirs[:200]!r}")
        columns[ours] = theirs
    return columns
