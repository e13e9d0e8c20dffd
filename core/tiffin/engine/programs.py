"""A program as a consumer of events: it gets json lines on standard input."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import DriverError, UserError
from ..programs import last_line, run

ALLOWED = ("program", "timeout", "filter")


class ProgramConsumer:
    """`[consumer.NAME] program = ["/path", ...]` of tiffin.toml. The program is run for each batch
    of events: a json line each, then the end of the file. Exit code 0 says that it has them; after
    any other the same lines come again."""

    def __init__(self, name: str, table: Mapping[str, Any]) -> None:
        self.name = name
        where = f"consumer.{name} in tiffin.toml"
        for key in table:
            if key not in ALLOWED:
                raise UserError(f"{where}: {key!r} is not known", hint=", ".join(ALLOWED))
        words = table["program"]
        if not words or not isinstance(words, list) or not all(isinstance(w, str) for w in words):
            raise UserError(f"{where}: program must be a list of words")
        if not os.path.isabs(words[0]) or not os.access(words[0], os.X_OK):
            raise UserError(f"{where}: {words[0]!r} is no absolute path of a program")
        self.words: list[str] = words
        self.timeout = table.get("timeout", 60)
        if not isinstance(self.timeout, (int, float)) or self.timeout <= 0:
            raise UserError(f"{where}: timeout must be a number of seconds")

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> int | None:
        lines = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events)
        code, _, stderr = await run(
            self.words, stdin=lines.encode(), timeout=self.timeout, check=False
        )
        if code:
            raise DriverError(f"{self.words[0]} ended with {code}: {last_line(stderr)}")
        return None

    async def settle(self, *, last: bool) -> int | None:
        return None

    async def close(self) -> None:
        """The program has ended with its batch."""
