"""What a JSON file may hold, said by the types of a dataclass or NamedTuple."""

import dataclasses
import math
import types
import typing
from typing import Any, Literal


def checked(kind: Any, value: Any, name: str = "it") -> Any:
    """``value``, as JSON has it, if it is of the type ``kind``.

    Args:
      kind: int (64 bits), float (finite), str, bool, None, a Literal, a union, a list, a dict with keys of text, or a
        dataclass or NamedTuple, which is made of a dictionary; fields with a default may be missing, and unknown ones
        are ignored.
      value: of any type.
      name: of the value in messages.

    Raises:
      ValueError: it is of another type; says where.
    """
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case None if dataclasses.is_dataclass(kind) or hasattr(kind, "_field_defaults"):
            return _record(kind, _of(dict, value, name), name)
        case None if kind in (int, float):
            return _number(kind, value, name)
        case None:
            return _of(type(None) if kind is None else kind, value, name)
        case origin if origin is Literal:
            if type(value) is not str or value not in arguments:
                raise ValueError(f"{name} is {_shown(value)}, not {' or '.join(map(str, arguments))}")
            return value
        case origin if origin in (typing.Union, types.UnionType):
            return checked(type(value) if type(value) in arguments else arguments[0], value, name)
        case origin if origin is list:
            return [checked(arguments[0], one, f"{name}[{i}]") for i, one in enumerate(_of(list, value, name))]
        case _:
            return {key: checked(arguments[1], one, f"{name} {key}") for key, one in _of(dict, value, name).items()}


def _record(kind, values, name):
    hints = typing.get_type_hints(kind)
    for field in hints.keys() - _optional(kind) - values.keys():
        raise ValueError(f"{name} has no {field}")
    return kind(**{key: checked(hints[key], value, key) for key, value in values.items() if key in hints})


def _optional(kind):
    if not dataclasses.is_dataclass(kind):
        return kind._field_defaults.keys()
    fields, missing = dataclasses.fields(kind), dataclasses.MISSING
    return {field.name for field in fields if field.default is not missing or field.default_factory is not missing}


def _number(kind, value, name):
    value = float(value) if kind is float and type(value) is int and abs(value) < 2**63 else value
    _of(kind, value, name)
    if abs(value) >= 2**63 if kind is int else not math.isfinite(value):
        raise ValueError(f"{name} is {_shown(value)}, which is too large or not finite")
    return value


def _of(kind, value, name):
    if type(value) is not kind:
        raise ValueError(f"{name} is {_shown(value)}, not of type {kind.__name__}")
    return value


def _shown(value) -> str:
    if type(value) is int and abs(value) >= 2**63:
        return f"a number of {value.bit_length()} bits"
    return repr(value)[:40] if isinstance(value, str | int | float | types.NoneType) else f"a {type(value).__name__}"
