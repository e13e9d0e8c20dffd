"""Several iterators that wait for something, read side by side: a thread for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from queue import Queue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")
AHEAD = 64
"""Items that are read before they are wanted."""


def merge(sources: Sequence[Iterator[T]]) -> Iterator[tuple[int, T | None]]:
    """(number of the iterator, what it gave), in the order in which it comes; (number, None) when
    one has ended. What one of them raises is raised, and ends all. None of them may give None."""
    arrived: Queue[tuple[int, T | BaseException | None]] = Queue(AHEAD)

    def read(number: int, source: Iterator[T]) -> None:
        try:
            for item in source:
                arrived.put((number, item))
        except BaseException as error:
            arrived.put((number, error))
        else:
            arrived.put((number, None))

    for number, source in enumerate(sources):
        # Daemons: when the reader goes, nobody waits for those that wait for ever.
        Thread(target=read, args=(number, source), daemon=True).start()
    left = len(sources)
    while left:
        number, item = arrived.get()
        if isinstance(item, BaseException):
            raise item
        left -= item is None
        yield number, item
