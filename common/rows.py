"""Rows of local files: JSON, JSON lines, CSV, TSV and Parquet, also compressed; a bad line is named by its number.

Cells of CSV and TSV stay text, so that an answer such as 007 is not read as a number.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow.parquet import ParquetFile

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
Row = dict[str, Any]


def format_of(name: str) -> str | None:
    """The suffix that says how a file is read, without that of its compression; None if it is none of `FORMATS`."""
    path = Path(name)
    suffix = Path(path.stem).suffix if path.suffix in _COMPRESSIONS else path.suffix
    return suffix if suffix in FORMATS else None


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a file, one after another.

    Raises:
        ValueError: a file that is not there or holds something else than rows; the message has the line.
    """
    path = path.absolute()  # Arrow takes `~name/file` for a file of that user
    if not path.is_file():
        raise ValueError("there is no such file")
    kind = format_of(path.name)
    if kind == ".parquet":
        yield from _parquet(path)
        return
    try:
        with io.BufferedReader(pyarrow.input_stream(path, compression=_COMPRESSIONS.get(path.suffix))) as stream:
            if kind in (".csv", ".tsv"):
                yield from _table(stream, "\t" if kind == ".tsv" else ",")
            elif kind == ".jsonl":
                yield from _lines(stream)
            else:
                yield from _json(stream)
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"it cannot be read ({first_line(error)})") from error


def first_line(error: Exception, longest: int = 200) -> str:
    """What an error says first, or its kind; cut where it is `longest`."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:longest]


def _text(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"line {number} is not UTF-8 text: save the file as UTF-8") from error


def _parsed(text: str, line: str) -> Any:
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():  # such an escape may stand for half a letter
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        raise ValueError(f"{line} has text that is not valid Unicode (half of a surrogate pair): mend it") from error
    except json.JSONDecodeError as error:
        problem = error.msg.removesuffix(" at")  # of "Unterminated string starting at"
        raise ValueError(f"{line} is not JSON ({problem} at character {error.colno})") from error
    except RecursionError as error:
        raise ValueError(f"{line} is nested too deeply to be read") from error
    except ValueError as error:  # whole numbers of thousands of digits
        raise ValueError(f"{line} cannot be read ({first_line(error)})") from error


def _row(value: Any, line: str) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f'{line} must be an object such as {{"prompt": …}}, got {str(value)[:40]!r}')
    return value


def _lines(stream: io.BufferedReader) -> Iterator[Row]:
    for number, line in enumerate(stream, 1):
        text = _text(line, number)
        if text.strip():
            yield _row(_parsed(text, f"line {number}"), f"line {number}")


def _json(stream: io.BufferedReader) -> Iterator[Row]:
    """An array of rows, an object that holds one such array, one row, or JSON lines under the name .json."""
    lines = stream.readlines()
    text = "".join(_text(line, number) for number, line in enumerate(lines, 1))
    if not text.strip():
        return
    try:
        whole = _parsed(text, "the file")
    except ValueError as error:
        if not str(error).startswith("the file is not JSON (Extra data"):
            raise
        yield from _lines(io.BufferedReader(io.BytesIO(b"".join(lines))))
        return
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        whole = lists[0] if len(whole) == len(lists) == 1 and "role" not in lists[0][0] else [whole]
    if not isinstance(whole, list):
        raise ValueError(f"the file must hold an array of rows, got {str(whole)[:40]!r}")
    for number, value in enumerate(whole, 1):
        yield _row(value, f"row {number}")


def _table(stream: io.BufferedReader, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(
        (_text(line, number) for number, line in enumerate(stream, 1)), delimiter=delimiter, strict=True
    )
    header: list[str] | None = None
    try:
        for cells in reader:
            if not cells:
                continue
            if header is None:
                header = cells
            elif len(cells) != len(header):
                raise ValueError(f"line {reader.line_num} has {len(cells)} cells, its header {len(header)}")
            else:
                yield dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} cannot be read ({error})") from error


def _parquet(path: Path) -> Iterator[Row]:
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(1000):
                yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"it is no Parquet file ({first_line(error)})") from error
