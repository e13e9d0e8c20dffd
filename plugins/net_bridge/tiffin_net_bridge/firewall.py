"""nftables through libnftables(3), the library that the program nft is a front end of.

A command costs half a millisecond; the program would spend 2 ms on its own start and 10 ms waiting
for the kernel's clean-up when it closes its socket. A buffer is one transaction: all or nothing.
"""

from __future__ import annotations

import ctypes
import json
from typing import Any

from tiffin.errors import DriverError

NFT_CTX_DEFAULT = 0
NFT_CTX_OUTPUT_JSON = 1 << 4


class Firewall:
    """A connection to nftables in the network namespace in which it was made."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL("libnftables.so.1")
        except OSError:
            raise DriverError(
                "nftables is not installed", hint="install it: apt install nftables"
            ) from None
        library.nft_ctx_new.restype = ctypes.c_void_p
        for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
            getattr(library, name).restype = ctypes.c_char_p
        self._library = library
        self._context = ctypes.c_void_p(library.nft_ctx_new(NFT_CTX_DEFAULT))
        library.nft_ctx_buffer_error(self._context)
        library.nft_ctx_buffer_output(self._context)

    def run(self, text: str) -> str:
        """Carry out a transaction. Returns "" or the reason why nothing of it was done, as nft
        words it."""
        library, context = self._library, self._context
        library.nft_ctx_output_set_flags(context, 0)
        failed = library.nft_run_cmd_from_buffer(context, text.encode())
        message = library.nft_ctx_get_error_buffer(context).decode(errors="replace")
        library.nft_ctx_get_output_buffer(context)  # reading empties it
        if not failed:
            return ""
        lines = [line for line in message.splitlines() if "Error" in line]
        return lines[0].partition("Error: ")[2] if lines else message.strip() or "failed"

    def listed(self, what: str) -> dict[str, Any] | None:
        """One set or map (`set inet t s`; libnftables-json(5)), None when there is none.

        Several list commands in one buffer fail in nft 1.0.6. Error: DriverError.
        """
        kind = what.partition(" ")[0]
        entries = self._listed(what)
        found: dict[str, Any] | None = next((e[kind] for e in entries if kind in e), None)
        return found

    def table(self, name: str) -> list[dict[str, Any]]:
        """All of a table: sets, maps, chains and rules; nothing when there is none."""
        return self._listed(f"table {name}")

    def ruleset(self) -> list[dict[str, Any]]:
        """All tables, whosever they are."""
        return self._listed("ruleset")

    def _listed(self, what: str) -> list[dict[str, Any]]:
        library, context = self._library, self._context
        library.nft_ctx_output_set_flags(context, NFT_CTX_OUTPUT_JSON)
        failed = library.nft_run_cmd_from_buffer(context, f"list {what}".encode())
        output = library.nft_ctx_get_output_buffer(context)
        message = library.nft_ctx_get_error_buffer(context).decode(errors="replace")
        if not failed:
            entries: list[dict[str, Any]] = json.loads(output)["nftables"]
            return entries
        if "No such file or directory" in message:
            return []
        raise DriverError(f"nftables: cannot list {what}: {message.splitlines()[0]}")
