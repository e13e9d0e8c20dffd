"""trio for one command line: without the parts of it that speak TLS and DTLS.

They load OpenSSL, hmac and more, an eighth of all that a short command executes, and no command
uses them (registries are spoken to in threads, by http.client). Only the process of the `tiffin`
program is concerned: an engine inside another program gets the whole of trio.
"""

from __future__ import annotations

import sys

UNUSED = ("trio._dtls", "trio._ssl", "trio._highlevel_ssl_helpers")


class LeftOut(type(sys)):  # type: ignore[misc]
    """Has whatever name trio's `__init__` asks for; none of it can be used."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": _refuse})


def _refuse(self: object, *_: object, **__: object) -> None:
    raise RuntimeError(f"{type(self).__name__} is left out of trio in the command line")


def prepare() -> None:
    """Before trio is imported, which this does not do. `tiffin.quicktrio` puts the parts back if
    this version of trio cannot be imported without them."""
    for name in UNUSED:
        sys.modules.setdefault(name, LeftOut(name))
