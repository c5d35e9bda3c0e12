"""Methods from outside this project: `my_method.py:mine` names a value in a file, installed packages name theirs.

A package says in its `pyproject.toml` what it has:

    [project.entry-points."ift.methods"]
    mine = "my_package.losses:mine"

Wherever a method is named, such a name works; the method is known by its value's own `name` from then on, also in the
processes that this one starts. A method from outside is tried on small made-up numbers before it is used
(`ift.trying`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ift.fields import check_fields, reason
from ift.method import Method

GROUP = "ift.methods"  # of entry points
_OF_FILES = "IFT_METHODS"  # environment: what processes that are started by this one have to read, one a line
_REFERENCE = re.compile(r"(?<![^,=\n])[^,=\n]+\.py:[A-Za-z_]\w*")  # begins in one place: long words take no longer


@dataclass
class Origin:
    """Where a method from outside comes from.

    Attributes:
        place: in words, without a local path.
        reference: the value itself, in a file or a package.
        on_command_line: how a command names it: a file by the path that was given. It is for the one who gave it.
        shown: the same without a local path, for what others read.
        tried: whether its loss has been tried.
    """

    place: str
    reference: str
    on_command_line: str
    shown: str
    tried: bool = False


class Methods(dict[str, Method]):
    """Methods by name, in the order of tables; those from outside this project have an origin."""

    def __init__(self, ours: Iterable[Method]):
        super().__init__({method.name: method for method in ours})
        self.origins: dict[str, Origin] = {}

    def add_installed(self) -> None:
        """Those of installed packages; one that cannot be used is left out, with a line that says why."""
        for entry in entry_points(group=GROUP):
            package = entry.dist.name if entry.dist else "a package"
            try:
                method = _as_method(f"{package}'s {entry.name}", entry.load())
                version = entry.dist.version if entry.dist else ""
                self._add(method, Origin(f"{package} {version}".strip(), entry.value, method.name, method.name))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # someone else's code: the other methods must go on working
                print(f"note: the method {entry.name!r} of {package} is left out: {reason(error)}", file=sys.stderr)

    def add_of_parent(self) -> None:
        """Those of files that the process which started this one has read; a line says which cannot be used."""
        for reference in os.environ.get(_OF_FILES, "").splitlines():
            try:
                self.add_file(reference)
            except ValueError as error:
                print(f"note: {_OF_FILES} in the environment is no list of methods: {error}", file=sys.stderr)

    def add_file(self, reference: str) -> str:
        """The name of the method that `FILE.py:NAME` stands for, which is known from then on.

        Raises:
            ValueError: a file that is not there or cannot be run, a name that it lacks or that is no method, or a
                method whose name another one has.
        """
        path, _, name = reference.rpartition(":")
        file, digest = _file(reference, path)
        named = f"{file.name}:{name}"
        origin = Origin(f"{named} sha256 {digest}", f"{file}:{name}", reference, named)
        for known, other in self.origins.items():
            if other.reference == origin.reference:
                return known
        method = _as_method(reference, _value(reference, file, name))
        self._add(method, origin)
        lines = [*os.environ.get(_OF_FILES, "").splitlines(), origin.reference]
        os.environ[_OF_FILES] = "\n".join(dict.fromkeys(lines))
        return method.name

    def is_in_a_file(self, text: str) -> bool:
        """Whether a text is `FILE.py:NAME`, which `named_in` would run."""
        return _REFERENCE.search(text) is not None

    def named_in(self, text: str) -> str:
        """The text with the name of its method in place of each `FILE.py:NAME`; raises as `add_file`."""
        return _REFERENCE.sub(lambda match: self.add_file(match[0]), text)

    def named_in_option(self, words: Sequence[str]) -> list[str]:
        """A command line with the names of its methods in place of each `FILE.py:NAME` that `--method` has."""
        return [self.named_in(word) if its else word for word, its in zip(words, _of_option(words), strict=True)]

    def words_of_option(self, words: Sequence[str]) -> list[str]:
        """The words of a command line that are values of `--method`: they alone may have a file run."""
        return [word for word, its in zip(words, _of_option(words), strict=True) if its]

    def try_outsider(self, name: str) -> None:
        """Raise `ValueError` if a method is from outside and its loss does not do what its value says."""
        origin = self.origins.get(name)
        if origin is not None and not origin.tried:
            from ift.trying import try_method

            try_method(self[name])
            origin.tried = True

    def from_outside(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """For records of results: where those of the methods come from that are no part of this project."""
        places = {name: self.origins[name].place for name in names if name in self.origins}
        return {"origins": places} if places else {}

    def _add(self, method: Method, origin: Origin) -> None:
        if method.name in self:
            raise ValueError(
                f"method {origin.reference!r} has the name {method.name!r}, which another method has: give it one of "
                "its own"
            )
        self[method.name] = method
        self.origins[method.name] = origin


def _of_option(words: Sequence[str]) -> list[bool]:
    """Which words of a command line belong to `--method`: those up to the next option, or that of `--method=WORD`."""
    belong, inside = [], False
    for word in words:
        option = word.startswith("-")
        belong.append(word.startswith("--method=") if option else inside)
        inside = word == "--method" if option else inside
    return belong


def _file(reference: str, path: str) -> tuple[Path, str]:
    """The file of a reference, with the beginning of its SHA-256; raises `ValueError` if there is none to read."""
    try:
        file = Path(path).expanduser().resolve()
        found = file.is_file()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16] if found else ""
        str(file).encode()
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"method {reference!r}: the file cannot be read: {reason(error)}") from error
    if file.suffix != ".py":
        raise ValueError(f"method {reference!r} names no Python file: it must be FILE.py:NAME")
    if not found:
        raise ValueError(f"method {reference!r}: there is no file {str(file)!r}")
    return file, digest


def _value(reference: str, file: Path, name: str) -> Any:
    """What a file calls `name`; the file is run once, as a module that its own folder's modules may import beside."""
    module_name = f"ift_own_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module  # before it runs: dataclasses look their module up
        if str(file.parent) not in sys.path:
            sys.path.append(str(file.parent))
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            sys.modules.pop(module_name, None)
            raise _not_run(reference, error) from error
    module = sys.modules[module_name]
    try:
        return getattr(module, name)
    except AttributeError as error:
        values = [key for key, value in vars(module).items() if isinstance(value, Method)]
        raise ValueError(
            f"method {reference!r}: the file has no {name!r} (methods in it: {', '.join(values) or 'none'})"
        ) from error
    except BaseException as error:  # of a module's own __getattr__
        raise _not_run(reference, error) from error


def _not_run(reference: str, error: BaseException) -> BaseException:
    """What an error of someone else's file is for the one who named it; an interrupt stays one."""
    if isinstance(error, KeyboardInterrupt):
        return error
    if isinstance(error, SystemExit):
        return ValueError(f"method {reference!r}: the file ended Python ({reason(error)}): it must only define methods")
    return ValueError(f"method {reference!r}: the file cannot be run: {reason(error)}")


def _as_method(reference: str, value: Any) -> Method:
    if not isinstance(value, Method):
        raise ValueError(
            f"method {reference!r} is a {type(value).__name__}: it must be an ift.Method, which has the loss "
            "as its part (docs/add-a-method.md)"
        )
    check_fields(reference, value)
    return value
