"""The harness's model, asked nothing twice: its answers are kept in a file of JSON lines as they come.

The harness can keep answers too, in a database of Python objects: whoever reads such a file runs what is in it. To read
JSON runs nothing.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lm_eval.models.huggingface import HFLM

from common.command import progress_bar
from common.folders import reading


class Remembering(HFLM):
    """A model for the harness whose answers are appended to `file`, and taken from it where it has them.

    `begin` is called before the file is made: until then nothing is written.

    Questions are asked in blocks of `batch_size` contexts, and a block is asked as a whole, or not at all. So what
    shares a batch does not depend on where an evaluation was stopped, and its numbers are the same to the last bit.
    """

    def __init__(self, file: Path, begin: Callable[[], None], **options: Any):
        super().__init__(**options)
        self.file, self.begin, self.answers = file, begin, _read(file)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
        """How likely each continuation is."""
        return self._remembered("loglikelihood", super().loglikelihood, requests)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
        """How likely each text is."""
        return self._remembered("loglikelihood_rolling", super().loglikelihood_rolling, requests)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
        """What the model writes."""
        return self._remembered("generate_until", super().generate_until, requests)

    def _remembered(self, kind: str, ask: Callable[..., list[Any]], requests: list[Any]) -> list[Any]:
        keys = _keys(kind, requests)
        with progress_bar(count="questions") as bar:
            task = bar.add_task("asking", total=len(requests))
            for block in _blocks([request.args[0] for request in requests], self.batch_size):
                if not all(keys[place] in self.answers for place in block):
                    answers = ask([requests[place] for place in block], disable_tqdm=True)
                    self._keep({keys[place]: answer for place, answer in zip(block, answers, strict=True)})
                bar.advance(task, len(block))
        return [self.answers[key] for key in keys]

    def _keep(self, answers: dict[str, Any]) -> None:
        new = {key: answer for key, answer in answers.items() if key not in self.answers}
        if not self.file.exists():
            self.begin()
        with self.file.open("a") as file:
            file.write("".join(json.dumps({"asked": key, "answer": answer}) + "\n" for key, answer in new.items()))
            file.flush()
            os.fsync(file.fileno())
        self.answers |= new


def _keys(kind: str, requests: list[Any]) -> list[str]:
    """A SHA-256 of each request; one that is asked again has another, as the answer may be drawn."""
    times: Counter[str] = Counter()
    keys = []
    for request in requests:
        text = json.dumps([kind, *request.args])
        keys.append(hashlib.sha256(f"{times[text]} {text}".encode()).hexdigest())
        times[text] += 1
    return keys


def _blocks(contexts: list[str], size: int) -> Iterator[list[int]]:
    """Places of requests in blocks of `size` different contexts, the longest first; those of a context stay together,
    as the harness reads a context once for all its continuations."""
    places: dict[str, list[int]] = {}
    for place in sorted(range(len(contexts)), key=lambda place: -len(contexts[place])):
        places.setdefault(contexts[place], []).append(place)
    alike = list(places.values())
    for first in range(0, len(alike), size):
        yield [place for group in alike[first : first + size] for place in group]


def _read(file: Path) -> dict[str, Any]:
    """The answers that a file holds; a line that a kill cut short is taken off it.

    Raises:
        ValueError: it holds anything else.
    """
    if not file.is_file():
        return {}
    whole = file.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    if len(kept) < len(whole):
        os.truncate(file, len(kept))
    with reading(file):
        rows = [json.loads(line) for line in kept.decode().splitlines()]
        return {str(row["asked"]): row["answer"] for row in rows}
