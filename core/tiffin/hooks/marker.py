"""`hookspec` and `hookimpl`: the marks that pluggy looks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])


class Marker:
    """pluggy's HookspecMarker and HookimplMarker: an attribute PROJECT_spec or PROJECT_impl with
    the options. Ours do not import pluggy: one driver by its name needs none of it. A plugin may
    as well use pluggy's own."""

    def __init__(self, attribute: str, **defaults: Any) -> None:
        self.attribute = attribute
        self.defaults = defaults

    @overload
    def __call__(self, function: F, /) -> F: ...

    @overload
    def __call__(self, /, **options: Any) -> Callable[[F], F]: ...

    def __call__(self, function: Any = None, /, **options: Any) -> Any:
        def mark(function: F) -> F:
            setattr(function, self.attribute, {**self.defaults, **options})
            return function

        return mark if function is None else mark(function)


hookspec = Marker(
    "tiffin_spec", firstresult=False, historic=False, warn_on_impl=None, warn_on_impl_args=None
)


hookimpl = Marker(
    "tiffin_impl",
    wrapper=False,
    hookwrapper=False,
    optionalhook=False,
    tryfirst=False,
    trylast=False,
    specname=None,
)
