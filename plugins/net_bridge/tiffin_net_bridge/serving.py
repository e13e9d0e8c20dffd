"""The worker process: JSON lines in, one out for each, from all commands that are connected.

Request: [operation, subject]; answer: null, a list (of `rules`), or {"error": class, "what": ...,
"hint": ...}.
Requests that are there at the same time are one batch: a change of names starts a name server, and
one is enough for all of them. The process ends with its last connection.
It is not a module of the engine: it imports next to nothing of it, because it starts beside it.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
from collections.abc import Callable, Sequence
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from tiffin.errors import DriverError, TiffinError
from tiffin.rtnetlink import Refused  # `link_tools` of tiffin.hooks; why by name: see worker.py

from . import cgroups
from .door import Door

if TYPE_CHECKING:
    from .worker import Steps, Worker
    from .zones import Change

Answers = Callable[[Sequence[bytes]], list[Any]]


class Client:
    """A command's connection: what has come of a request, and what has not gone of an answer."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.coming = b""
        self.going = b""

    def receive(self) -> bool:
        """False when the command is gone."""
        try:
            more = self.connection.recv(1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.coming += more
        return bool(more)

    def request(self) -> bytes | None:
        line, newline, rest = self.coming.partition(b"\n")
        if not newline:
            return None
        self.coming = rest
        return line

    def send(self) -> bool:
        """As much as it takes without waiting. False when the command is gone: what it asked for
        is done, and its intent is recorded."""
        try:
            self.going = self.going[self.connection.send(self.going) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


class Clients:
    """All that are connected; `serve` comes back when none is."""

    def __init__(self, first: socket.socket, door: Door, answers: Answers) -> None:
        self.door = door
        self.answers = answers
        self._there: dict[int, Client] = {}
        self._add(first)

    def serve(self) -> None:
        while self._there or self._latecomers():
            ready = self._wait()
            while (connection := self.door.accept()) is not None:
                self._add(connection)
            for number in ready & self._there.keys():
                client = self._there[number]
                if not client.receive() or (client.going and not client.send()):
                    self._remove(number)
            self._answer()

    def _wait(self) -> set[int]:
        poll = select.poll()
        for number, client in self._there.items():
            poll.register(number, select.POLLIN | (select.POLLOUT if client.going else 0))
        if self.door.socket is not None:
            poll.register(self.door.socket, select.POLLIN)
        return {number for number, _ in poll.poll()}

    def _latecomers(self) -> bool:
        """Those who came while the last one went; nobody comes after them."""
        self.door.remove()
        while (connection := self.door.accept()) is not None:
            self._add(connection)
        self.door.close()
        return bool(self._there)

    def _add(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._there[connection.fileno()] = Client(connection)
        if len(self._there) == 2:
            cgroups.leave(os.getpid())

    def _remove(self, number: int) -> None:
        self._there.pop(number).connection.close()

    def _answer(self) -> None:
        asked = {n: line for n, one in self._there.items() if (line := one.request()) is not None}
        if not asked:
            return
        replies = self.answers(list(asked.values()))
        for number, reply in zip(asked, replies, strict=True):
            client = self._there[number]
            client.going += json.dumps(reply).encode() + b"\n"
            if not client.send():
                self._remove(number)


class Step:
    """A request: done, or as far as the change of names that it needs."""

    def __init__(self, worker: Worker, line: bytes) -> None:
        self.operation, self.subject = json.loads(line)
        self.answer: Any = None
        self.change: Change | None = None
        self._steps: Steps | None = None
        self._carry_on(lambda: self._begin(worker.operations[self.operation]))

    def _begin(self, act: Callable[[Any], Any]) -> None:
        found = act(self.subject)
        if isinstance(found, GeneratorType):
            self._steps = found
            self.change = next(found)
        else:
            self.answer = found

    def served(self) -> None:
        """The names are changed; what remains is done."""
        assert self._steps is not None
        self._carry_on(self._steps.__next__)

    def failed(self, error: Exception) -> None:
        """They are not, and the request is undone."""
        assert self._steps is not None
        steps = self._steps
        self._carry_on(lambda: steps.throw(error))

    def _carry_on(self, act: Callable[[], object]) -> None:
        try:
            act()
        except StopIteration:
            return
        except TiffinError as error:
            self.answer = failure(error)
        except Exception as error:  # whatever it is: it is the answer, and others go on
            about = self.subject[0] if isinstance(self.subject, list) else self.subject
            name = about.get("container", "")[:12] or about.get("name", "")
            what = f"cannot {self.operation} {name} (network): {error}"
            if not isinstance(error, (OSError, Refused)):
                import traceback

                frame = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
                what = f"{what} ({type(error).__name__} at {where})"
            self.answer = failure(DriverError(what))


def answers(worker: Worker, lines: Sequence[bytes]) -> list[Any]:
    """The answers to a batch, in its order."""

    def rename(steps: list[Step]) -> None:
        try:
            worker.rename([step.change for step in steps if step.change is not None])
        except Exception as error:  # whatever it is, it is told
            if len(steps) == 1:
                steps[0].failed(error)
                return
            for step in steps:  # whose fault is it?
                rename([step])
        else:
            for step in steps:
                step.served()

    with worker.locked():
        steps = [Step(worker, line) for line in lines]
        named = [step for step in steps if step.change is not None]
        if named:
            rename(named)
    return [step.answer for step in steps]


def failure(error: TiffinError) -> dict[str, str]:
    return {"error": type(error).__name__, "what": error.what, "hint": error.hint}


def enter(home: str) -> None:
    from .worker import opened, setns

    with opened(home) as fd:
        setns(fd)


def own(listening: int) -> socket.socket:
    """A descriptor that we were started with; name servers are not to have it as well."""
    os.set_inheritable(listening, False)
    return socket.socket(fileno=listening)


def main(run: str, listening: int, home: str) -> None:
    """Serve the command whose connection is standard input, and those that come by the door (a
    descriptor, or -1 without one); in the network namespace at `home`, if that is given."""
    if home:
        enter(home)
    first = socket.socket(fileno=os.dup(0))
    door = Door(run, None if listening < 0 else own(listening))
    from .worker import Worker

    def broken(lines: Sequence[bytes]) -> list[Any]:
        return [reason] * len(lines)

    act: Answers = broken
    try:
        worker = Worker(run)
        act = partial(answers, worker)
    except TiffinError as error:
        reason = failure(error)
    except OSError as error:
        reason = failure(DriverError(f"cannot speak to the kernel's network: {error}"))
    # The first command's standard error is not to be held open for the others.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    gc.freeze()  # what was loaded stays (the collector is off until here: it slows loading down)
    gc.enable()
    Clients(first, door, act).serve()
    os._exit(0)  # a thread may still wait for the kernel: nothing here needs it
