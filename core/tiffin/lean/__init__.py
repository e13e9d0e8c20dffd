"""The libraries that every command imports, without what a short command does not use of them.

Importing is most of what a command costs. In the process of the `tiffin` program (`prepare`):
- parts of trio and msgspec are put off (`put_off`): each is imported when somebody, a plugin for
  instance, first asks for something that is in it;
- modules that these libraries import and use next to nothing of are stood in for meanwhile
  (`stand_ins`); attrs, for trio's own classes, is a small one of ours (`attrs`).
A version of a library that cannot be imported so is imported as it is. An engine inside another
program gets the plain libraries, only without trio's run of `ldconfig -p`.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # every command imports this: nothing that costs
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

TRIO = (
    "trio._channel",
    "trio._dtls",
    "trio._file_io",
    "trio._highlevel_open_tcp_listeners",
    "trio._highlevel_open_tcp_stream",
    "trio._highlevel_open_unix_stream",
    "trio._highlevel_serve_listeners",
    "trio._highlevel_socket",
    "trio._highlevel_ssl_helpers",
    "trio._path",
    "trio._socket",
    "trio._ssl",
    "trio.socket",
)
MSGSPEC = (
    "msgspec._json_schema",
    "msgspec.inspect",
    "msgspec.msgpack",
    "msgspec.toml",
    "msgspec.yaml",
)

_prepared = False


def prepare() -> None:
    """This process is one command line. To be called before the libraries are imported."""
    global _prepared
    _prepared = True


def load_msgspec() -> None:
    """Import msgspec, if it is not there yet."""
    from .stand_ins import absent, platform

    if _prepared and "msgspec" not in sys.modules:
        _load("msgspec", ("msgspec",), MSGSPEC, (platform, absent("typing_extensions")))


def load_trio() -> None:
    """Import trio, if it is not there yet."""
    from .attrs import stand_in
    from .stand_ins import ctypes_util, inspect, logging, sortedcontainers

    if "trio" in sys.modules:
        return
    if _prepared:
        stand_ins = (ctypes_util, logging, inspect, sortedcontainers, stand_in)
        _load("trio", ("trio", "outcome"), TRIO, stand_ins)
    else:
        with ctypes_util():
            __import__("trio")


def _load(
    library: str,
    packages: tuple[str, ...],
    parts: tuple[str, ...],
    stand_ins: tuple[Callable[[], AbstractContextManager[None]], ...],
) -> None:
    from contextlib import ExitStack

    from . import put_off

    try:
        with ExitStack() as stack:
            for stand_in in stand_ins:
                stack.enter_context(stand_in())
            put_off.load(library, parts)
    except Exception:  # made for another version of the library: take all of that
        for name in list(sys.modules):
            if name.partition(".")[0] in packages:
                del sys.modules[name]
        __import__(library)
