"""The check that all options dataclasses share: each field holds what its annotation says."""

from __future__ import annotations

from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from music_generator.errors import InputError

# annotation: what a value must be, in classes and in words
_KINDS: dict[str, tuple[type, str]] = {
    "int": (Integral, "a whole number"),
    "float": (Real, "a number"),
    "str": (str, "text in quotes"),
    "bool": (bool, "True or False"),
    "Path": (Path, "a `pathlib.Path`"),
}


def check_types(options: Any) -> None:
    """Check the fields of a dataclass whose annotation is a number, a text, a truth value or a path, or one or None.

    Raises:
        InputError: A field holds something else.
    """
    for field in fields(options):
        kind, value = str(field.type).removesuffix(" | None"), getattr(options, field.name)
        if kind not in _KINDS or (value is None and kind != field.type):
            continue
        cls, words = _KINDS[kind]
        if not isinstance(value, cls) or (isinstance(value, bool) and kind != "bool"):
            raise InputError(f"`{field.name}` must be {words}, not {value!r}")
