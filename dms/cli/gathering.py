"""Sets of options that several commands share: what was given arrives as one dict."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def gathered(options: Sequence[Decorator], function: Callable[P, R], name: str) -> Callable[P, R]:
    """Adds the options to a command, which gets what was given as the dict `name`."""
    names: list[str] = []

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        kwargs[name] = {option: kwargs.pop(option) for option in names}
        return function(*args, **kwargs)

    command: Callable[P, R] = wrapped
    others = len(getattr(function, "__click_params__", ()))
    for option in reversed(options):
        command = option(command)
    # click collects parameters in a list on the function, which functools.wraps shares with the wrapped one.
    names.extend(str(parameter.name) for parameter in command.__click_params__[others:])  # type: ignore[attr-defined] # set by click
    return command
