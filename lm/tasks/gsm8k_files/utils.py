"""What the harness calls for `gsm8k_files`."""

from pathlib import Path
from typing import Any

from datasets import Dataset

from common.rows import rows_of


def files(folder: str = "", **_: Any) -> dict[str, Dataset]:
    """`train` and `test` from the files of a folder.

    Raises:
        ValueError: no folder was named, a file is not there, or lacks `question` or `answer`, or
            holds something else than rows.
    """
    if not folder:
        raise ValueError("task_options must name the folder of train.jsonl and test.jsonl: folder=PATH")
    splits = {}
    for split in ("train", "test"):
        file = Path(folder).expanduser() / f"{split}.jsonl"
        if not file.is_file():
            raise ValueError(f"task_options folder={folder!r}: there is no {file.name}")
        try:
            splits[split] = Dataset.from_list(list(rows_of(file)))
        except ValueError as error:
            raise ValueError(f"{str(file)!r}: {error}") from error
        if not {"question", "answer"} <= set(splits[split].column_names):
            raise ValueError(f"{str(file)!r} must have question and answer, has {splits[split].column_names}")
    return splits
