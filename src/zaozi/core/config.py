"""Configurations: frozen dataclasses that pydantic reads from plain values, validating every key, type and range.

    @config("space")
    class Grid(SpaceConfig):
        width: Annotated[int, Range(1, 4096)] = 32
        \"""Channels.\"""

An unknown key, a wrong type or a number out of range raises `ZaoziError`: one line with the key and the valid values.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, dataclass_transform

import pydantic.dataclasses
from pydantic import ConfigDict, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from zaozi.core.errors import ZaoziError, unknown

C = TypeVar("C")


class Config:
    """Base class of all configurations; see `config`."""

    section: ClassVar[str] = ""
    """Section of the recipe, used in messages."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        inner: Any = schema
        while inner["type"] != "dataclass":
            inner = inner["schema"]
        inner["strict"] = False  # accept any mapping; its values stay strict
        return core_schema.no_info_before_validator_function(cls._known_keys, schema)

    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for key in values if isinstance(values, Mapping) else ():
            if key not in names:
                near = difflib.get_close_matches(str(key)[:80], names, n=1, cutoff=0.0)
                known = {"key": str(key)[:80], "near": near[0] if near else "", "known": ", ".join(names)}
                raise PydanticCustomError("unknown_key", "unknown key", known)
        return values


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def config(section: str = "") -> Callable[[type[C]], type[C]]:
    """Turn a class into a frozen dataclass, validated on construction: `DiTConfig(width=0)` raises `ZaoziError`.

    `section` is the part of a recipe that it represents. Messages put it before the key: `network.width`.
    """

    def decorate(cls: type[C]) -> type[C]:
        rules = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True)
        made: Any = pydantic.dataclasses.dataclass(frozen=True, config=rules)(cls)
        if section:
            made.section = section
        build = made.__init__

        @functools.wraps(build)
        def checked(self: Any, *args: Any, **values: Any) -> None:
            try:
                build(self, *args, **values)
            except ValidationError as error:
                raise _said(error, made, f"{made.section}." if made.section else "") from None

        made.__init__ = checked
        return made

    return decorate


@dataclasses.dataclass(frozen=True)
class Range:
    """Annotation for a number in [low, high]: `Annotated[int, Range(1, 512)]`."""

    low: float
    high: float = math.inf

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def check(self, value: Any) -> Any:
        if not self.low <= value <= self.high:  # also rejects NaN
            raise PydanticCustomError("out_of_range", "out of range", {"range": str(self)})
        return value

    def __str__(self) -> str:
        return f"{self.low:g} or more" if self.high == math.inf else f"{self.low:g} to {self.high:.10g}"


@dataclasses.dataclass(frozen=True)
class Length(Range):
    """Annotation for a list with a length in [low, high]."""

    def check(self, value: Any) -> Any:
        if not self.low <= len(value) <= self.high:
            raise PydanticCustomError("length", "length", {"range": str(self), "count": len(value)})
        return value


def from_dict(kind: type[C], values: Mapping[str, Any], where: str = "") -> C:
    """Build a configuration from plain values, as in TOML and JSON; `where` is put before the keys in messages.

    Raises `ZaoziError` with the key, and the closest valid one if it is unknown.
    """
    try:
        return TypeAdapter(kind).validate_python(_tuples(dict(values)))
    except ValidationError as error:
        raise _said(error, kind, where) from None


def to_dict(config: Any) -> dict[str, Any]:
    """Return the plain values of a configuration, in field order; the inverse of `from_dict`."""
    return dataclasses.asdict(config)


def _tuples(value: Any) -> Any:
    """Convert lists in plain values to tuples, as configurations use them."""
    if isinstance(value, Mapping):
        return {key: _tuples(v) for key, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


_TYPES = {"int_type": "int", "int_from_float": "int", "float_type": "float", "string_type": "str", "bool_type": "bool"}


def _said(error: ValidationError, kind: type, where: str) -> ZaoziError:
    """Return the first validation error as one line."""
    found = error.errors(include_url=False)[0]
    loc, context, value = found["loc"], found.get("ctx", {}), _short(found["input"])
    if loc and isinstance(loc[0], int):  # positional argument
        loc = (dataclasses.fields(kind)[loc[0]].name, *loc[1:])
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    name = (where + path)[:160]
    match found["type"]:
        case "unknown_key":
            inside = f"{name.rstrip('.')}." if name else ""
            return ZaoziError(
                f"unknown key '{inside}{context['key']}'; did you mean '{inside}{context['near']}'? "
                f"(known: {context['known']})"
            )
        case "unexpected_keyword_argument":
            return unknown("key", str(loc[-1])[:80], [f.name for f in dataclasses.fields(kind)])
        case "out_of_range":
            return ZaoziError(f"{name} {value[:40]} is out of range; use {context['range']}")
        case "length":
            return ZaoziError(f"the number of {name}, {context['count']}, is out of range; use {context['range']}")
        case "literal_error" | "unknown_kind":
            known = re.findall(r"'([^']*)'|(-?\d+)", context["expected"])
            names = [text or number for text, number in known]
            near = difflib.get_close_matches(str(found["input"])[:80], names, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            return ZaoziError(f"'{name}' is {value}{hint} (known: {', '.join(names)})")
        case "missing" | "missing_argument":
            inside = name.rpartition(".")[0] or kind.__name__
            return ZaoziError(f"{inside}: the key '{loc[-1]}' is missing; add it")
        case "dataclass_type":
            return ZaoziError(f"'{name}' is a section; write it as [{name}]")
        case "tuple_type":
            return ZaoziError(f"'{name}' is {value}; write a list")
        case kind_of if kind_of in _TYPES:
            if _TYPES[kind_of] == "float" and isinstance(found["input"], int) and not isinstance(found["input"], bool):
                return ZaoziError(f"'{name}' is larger than any float; use a smaller number")
            return ZaoziError(f"'{name}' is {value}; it must be {_TYPES[kind_of]}")
    return ZaoziError(f"'{name}' is {value}: {found['msg'][:80]}")


def _short(value: Any) -> str:
    """Return a value as written in code, truncated if long."""
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python can print
        text = "a number of very many digits"
    return text if len(text) <= 60 else text[:57] + "..."
