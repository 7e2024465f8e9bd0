"""What the file of a grid may say: each check returns the value, or says what was expected where."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SEED = "seed_everything"
_NAME = re.compile(r"\w[\w.+-]*")
_OPTION = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


def options(value: Any, where: str) -> dict[str, Any]:
    """Options of ``lightning fit`` by their names; none where nothing is said."""
    found = mapping(value or {}, where)
    for name in found:
        if not _OPTION.fullmatch(str(name)):
            raise ValueError(
                f"{where}: expected options of 'lightning fit' without dashes, such as trainer.max_steps, got '{name}'"
            )
        if name in ("config", "model", SEED, "ckpt_path"):
            raise ValueError(f"{where}: '{name}' is decided by the grid and cannot be an option of a cell; remove it")
    return found


def mapping(value: Any, where: str, allowed: Iterable[str] = (), needed: Iterable[str] = ()) -> dict[str, Any]:
    """Pairs of key and value, with all keys allowed unless some are named."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected 'key: value' pairs, got {value!r}")
    if allowed:
        known(value, allowed, where, "key")
    missing = [key for key in needed if value.get(key) is None]
    if missing:
        there = ", ".join(str(key) for key in value if value[key] is not None) or "none"
        raise ValueError(f"{where}: expected the key '{missing[0]}', got only: {there}")
    return dict(value)


def known(names: Iterable[Any], allowed: Iterable[str], where: str, kind: str) -> None:
    """Refuses names that are not known."""
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            close = difflib.get_close_matches(str(name), allowed, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"choose one of: {', '.join(allowed)}"
            raise ValueError(f"{where}: unknown {kind} '{name}'; {hint}")


def list_of(value: Any, kind: type, where: str, example: str) -> list[Any]:
    """A list of different things of one type."""
    right = isinstance(value, list) and all(isinstance(each, kind) and not isinstance(each, bool) for each in value)
    if not right or len(set(value)) != len(value):
        raise ValueError(f"{where}: expected a list of different {example}, got {value!r}")
    return list(value)


def plain_name(value: Any, where: str) -> str:
    """A name that can be that of a directory."""
    if not _NAME.fullmatch(str(value)):
        raise ValueError(f"{where}: expected a name of letters, digits and . + - _, got '{value}'")
    return str(value)


def file(value: Any, where: str) -> str:
    """The path of a file that exists."""
    if not Path(str(value)).is_file():
        raise FileNotFoundError(f"{where}: expected a configuration file, found no file '{value}'")
    return str(value)
