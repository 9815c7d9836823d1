"""What a template of an operator rendered, as the value that it stands for."""

from __future__ import annotations

from s3_sync.errors import InvalidOption


def as_bool(name: str, value: bool | str) -> bool:
    """Return a bool. Raises InvalidOption for anything but true and false."""
    named = {"true": True, "false": False}.get(str(value).strip().lower())
    if named is None:
        raise InvalidOption(f"{name} is {value!r}: it must be true or false")
    return named


def as_fraction(name: str, value: float | str) -> float:
    """Return a number from 0 to 1. Raises InvalidOption for anything else."""
    try:
        fraction = float(value)
    except (TypeError, ValueError):
        fraction = -1.0
    if isinstance(value, bool) or not 0 <= fraction <= 1:
        raise InvalidOption(f"{name} is {value!r}: it must be a number from 0 to 1")
    return fraction


def as_count(name: str, value: int | str, lowest: int = 0, highest: int | None = None) -> int:
    """Return a whole number within bounds. Raises InvalidOption for anything else."""
    whole = not isinstance(value, bool) and str(value).strip().isdecimal()
    if not whole or int(value) < lowest or (highest is not None and int(value) > highest):
        bounds = f"{lowest} or more" if highest is None else f"from {lowest} to {highest}"
        raise InvalidOption(f"{name} is {value!r}: it must be a whole number, {bounds}")
    return int(value)
