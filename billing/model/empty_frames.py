"""Skip the work on frames without rows: most businesses use few of all rules in a month.

An operation on an empty frame costs as much as one on a hundred rows; of a month of ten accounts two thirds are such.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

import polars as pl

P = ParamSpec("P")

COMPARE = False
"""Compute skipped results all the same, and compare them: for tests."""


def skip_if_empty(
    *drivers: str, by: tuple[str, ...] = ()
) -> Callable[[Callable[P, pl.DataFrame]], Callable[P, pl.DataFrame]]:
    """Decorate a function whose result has no rows where some of its frames have none: remember that result.

    Parameters
    ----------
    drivers
        Names of the parameters, frames, that all have to be empty.
    by
        Names of the parameters that decide which columns the result has, apart from the columns of the frames: text,
        booleans, or lists of text.

    Raises
    ------
    AssertionError
        When the function is called and makes rows of none.
    """

    def decorate(function: Callable[P, pl.DataFrame]) -> Callable[P, pl.DataFrame]:
        parameters = list(inspect.signature(function).parameters.values())
        positions = {parameter.name: position for position, parameter in enumerate(parameters)}
        defaults = {parameter.name: parameter.default for parameter in parameters}
        remembered: dict[tuple[object, ...], pl.DataFrame] = {}

        def value(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            position = positions[name]
            return args[position] if position < len(args) else kwargs.get(name, defaults[name])

        @functools.wraps(function)
        def skipping(*args: P.args, **kwargs: P.kwargs) -> pl.DataFrame:
            if any(value(name, args, kwargs).height for name in drivers):
                return function(*args, **kwargs)
            key = (
                *(_columns(each) for each in args),
                *((name, _columns(each)) for name, each in kwargs.items()),
                *(_hashable(value(name, args, kwargs)) for name in by),
            )
            known = remembered.get(key)
            if known is None or COMPARE:
                found = function(*args, **kwargs)
                columns = found.schema if known is None else known.schema
                if not found.is_empty() or found.schema != columns:
                    name = function.__qualname__
                    raise AssertionError(
                        f"{name}, of no rows: found {found.height} of {found.schema}, expected none of {columns}"
                    )
                known = remembered[key] = found
            return known.clone()

        return skipping

    return decorate


def _columns(argument: object) -> object:
    """What of an argument decides the columns of the result, as far as it can be seen."""
    return tuple(argument.schema.items()) if isinstance(argument, pl.DataFrame) else type(argument)


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
