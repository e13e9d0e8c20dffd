"""`events --all-users`: root reads the logs of everybody on the machine, as one.

A user's store is the user's: they may put links, pipes or a broken database there. So root never
opens any of it: for each user there is a child with that user's rights and nothing of ours but a
pipe, which prints their events; a store can mislead it to nothing that the user could not read
themselves. What it says of an event is what the user's log says; whose log it is, we say.
"""

from __future__ import annotations

import heapq
import json
import os
import pwd
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

from .. import inotify, syscalls
from ..errors import UserError
from ..layout import Layout
from . import printable

STORE = ".local/share"
PR_SET_PDEATHSIG = 1
LONGEST_LINE = 16 << 20
LONGEST_BACKLOG = 1 << 30
"""Bytes; more of one user is not read."""
PATIENCE = 60.0
"""Seconds for the backlog of one user."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a child that ended is made again, doubled each time."""
CALM = 0.2
"""Seconds between two looks for new stores."""


class Owner:
    """Somebody with an account, and their log."""

    def __init__(self, entry: pwd.struct_passwd, layout: Layout, environment: dict[str, str]):
        self.name, self.uid, self.gid = entry.pw_name, entry.pw_uid, entry.pw_gid
        self.layout = layout
        self.environment = environment
        self.seq = 0
        """The last one that was shown."""

    def has_store(self) -> bool:
        return os.path.isfile(self.layout.database)  # a pipe would keep its reader waiting

    def nearest(self) -> str:
        """The lowest directory of the way to their store that is there."""
        path = os.path.dirname(self.layout.database)
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        return path

    def child(self, words: Sequence[str], out: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """`tiffin events` with this user's rights. It has no terminal of ours to write to, no
        file of ours but `out`, and no variable."""
        own = self.uid != os.geteuid()
        program = [sys.executable, "-I", "-m", "tiffin.cli.main"]
        places = ["--root", self.layout.root, "--runroot", self.layout.run]
        return subprocess.Popen(
            [*program, *places, "events", "--format", "told", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath, **self.environment},
            start_new_session=True,
            user=self.uid if own else None,
            group=self.gid if own else None,
            extra_groups=os.getgrouplist(self.name, self.gid) if own else None,
            preexec_fn=_limit,
        )


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LONGEST_BACKLOG, LONGEST_BACKLOG))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    syscalls.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def owners(layout: Layout) -> list[Owner]:
    """Everybody with a home of their own, and root with the store that is meant."""
    found: list[Owner] = []
    data = _data_homes()
    for entry in pwd.getpwall():
        if entry.pw_uid == 0:
            if not found or all(one.uid for one in found):
                found.append(Owner(entry, layout, {"HOME": entry.pw_dir}))
            continue
        try:
            status = os.stat(entry.pw_dir)
        except OSError:
            continue
        if status.st_uid != entry.pw_uid:
            continue
        top = data.get(entry.pw_uid) or f"{entry.pw_dir}/{STORE}"
        run = f"/run/user/{entry.pw_uid}"
        theirs = Layout(f"{top}/tiffin", f"{run}/tiffin", entry.pw_uid)
        found.append(Owner(entry, theirs, {"HOME": entry.pw_dir, "XDG_RUNTIME_DIR": run}))
    return list({one.uid: one for one in found}.values())


def _data_homes() -> dict[int, str]:
    """uid -> XDG_DATA_HOME, of those whose systemd has one in its environment."""
    found: dict[int, str] = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            uid = os.stat(f"/proc/{pid}").st_uid
            with open(f"/proc/{pid}/comm", "rb") as file:
                if uid == 0 or file.read() != b"systemd\n":
                    continue
            with open(f"/proc/{pid}/environ", "rb") as file:
                pairs = file.read(1 << 20).split(b"\0")
        except OSError:
            continue
        for pair in pairs:
            name, _, value = pair.partition(b"=")
            if name == b"XDG_DATA_HOME" and value.startswith(b"/"):
                found[uid] = os.fsdecode(value)
    return found


def parse(line: bytes, owner: Owner) -> dict[str, Any] | None:
    """An event as a child told it, with its owner; None for what is none: the child is the user's,
    and so may its words be."""
    try:
        event = json.loads(line)
        actor = event["actor"]
        if not isinstance(event["seq"], int) or not isinstance(event["time"], str):
            return None
        for key in ("uid", "loginuid", "session"):
            if not isinstance(actor[key], int):
                return None
        if not all(isinstance(event[key], str) for key in ("type", "stream", "text")):
            return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    owner.seq = max(owner.seq, event["seq"])
    return {"owner": {"name": owner.name, "uid": owner.uid}, **event}


# --- what there is --------------------------------------------------------------------------------


def backlog(everybody: Sequence[Owner], words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What all logs have, by time; each is whole and in its own order."""
    files = []
    for owner in everybody:
        if not owner.has_store():
            continue
        file = tempfile.TemporaryFile()  # noqa: SIM115 (as long as it is merged)
        child = owner.child(words, file)
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            complain(f"the log of {owner.name} cannot be read in {PATIENCE:.0f} seconds")
        else:
            if child.returncode:
                complain(f"the log of {owner.name} cannot be read")
        file.seek(0)
        files.append((owner, file))
    streams = [_told(owner, file) for owner, file in files]
    yield from heapq.merge(*streams, key=lambda event: event["time"])


def _told(owner: Owner, file: IO[bytes]) -> Iterator[dict[str, Any]]:
    latest = ""
    while line := file.readline(LONGEST_LINE):
        event = parse(line, owner)
        if event is not None:
            # A clock that was set back would upset the order of all others.
            latest = event["time"] = max(latest, event["time"])
            yield event
    file.close()


def complain(text: str) -> None:
    sys.stderr.write(f"Warning: {printable.line(text)}\n")


# --- what comes -----------------------------------------------------------------------------------


class Follower:
    """One user's log, as it grows; made again when its child ends."""

    def __init__(self, owner: Owner, words: Sequence[str]) -> None:
        self.owner, self.words = owner, words
        self.child: subprocess.Popen[bytes] | None = None
        self.rest = b""
        self.pause = FIRST_PAUSE
        self.again = 0.0

    def start(self) -> None:
        read, write = os.pipe2(os.O_CLOEXEC)
        words = ["--follow", "--after", str(self.owner.seq), *self.words]
        try:
            self.child = self.owner.child(words, write)
        finally:
            os.close(write)
        self.pipe = read
        self.rest = b""

    def read(self) -> list[dict[str, Any]] | None:
        """The events that have come; None when the child has ended."""
        data = os.read(self.pipe, 1 << 16)
        if not data:
            return None
        *lines, self.rest = (self.rest + data).split(b"\n")
        if len(self.rest) > LONGEST_LINE:
            return None
        self.pause = FIRST_PAUSE if lines else self.pause
        told = (parse(line, self.owner) for line in lines)
        return [event for event in told if event is not None]

    def stop(self) -> None:
        if self.child is not None:
            os.close(self.pipe)
            self.child.kill()
            self.child.wait()
            self.child = None

    def later(self) -> None:
        """Make it again, not at once."""
        self.stop()
        self.again = time.monotonic() + self.pause
        self.pause = min(self.pause * 2, LONGEST_PAUSE)


class Machine:
    """The followers of all, and the watch for stores that are not there yet."""

    def __init__(self, layout: Layout, everybody: list[Owner], words: Sequence[str]) -> None:
        self.layout, self.words = layout, words
        self.owners = {owner.uid: owner for owner in everybody}
        self.followers: dict[int, Follower] = {}
        self.select = selectors.DefaultSelector()
        self.looked = 0.0

    def events(self) -> Iterator[dict[str, Any]]:
        with inotify.Inotify() as watches:
            self.select.register(watches.fd, selectors.EVENT_READ, None)
            watches.watch("/etc", inotify.MOVED_TO | inotify.CLOSE_WRITE)
            try:
                self._look(watches, accounts=False)
                while True:
                    yield from self._once(watches)
            finally:
                for follower in self.followers.values():
                    follower.stop()

    def _once(self, watches: inotify.Inotify) -> Iterator[dict[str, Any]]:
        for key, _ in self.select.select(self._patience()):
            follower = key.data
            if follower is None:
                names = {name for _, _, name in watches.events()}
                wait = self.looked + CALM - time.monotonic()
                if wait > 0:
                    time.sleep(wait)  # somebody makes many files
                    watches.events()
                self._look(watches, accounts="passwd" in names)
                continue
            told = follower.read()
            if told is None:
                self.select.unregister(key.fd)
                follower.later()
            yield from told or ()
        now = time.monotonic()
        for follower in self.followers.values():
            if follower.child is None and follower.again <= now:
                self._start(follower)

    def _patience(self) -> float | None:
        """Seconds until a child is to be made again; None: there is no such one."""
        waiting = [one.again for one in self.followers.values() if one.child is None]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _look(self, watches: inotify.Inotify, *, accounts: bool) -> None:
        """Follow those who have a store now; wait for the others'."""
        if accounts:
            for owner in owners(self.layout):
                self.owners.setdefault(owner.uid, owner)
        for uid, owner in self.owners.items():
            if uid in self.followers:
                continue
            # The watch first: what is made meanwhile wakes us.
            try:
                watches.watch(owner.nearest(), inotify.ENTRIES)
            except OSError:
                continue
            if owner.has_store():
                self.followers[uid] = Follower(owner, self.words)
                self._start(self.followers[uid])
        self.looked = time.monotonic()

    def _start(self, follower: Follower) -> None:
        try:
            follower.start()
        except OSError as error:
            complain(f"the log of {follower.owner.name} cannot be read: {error.strerror}")
            follower.later()
            return
        self.select.register(follower.pipe, selectors.EVENT_READ, follower)


# --- the command ----------------------------------------------------------------------------------


def run(layout: Layout, options: dict[str, Any]) -> int:
    """`events --all-users`. Error: UserError."""
    if os.geteuid() != 0 or layout.uid != 0:
        raise UserError("--all-users: only root sees the logs of others", hint="leave it away")
    for flag in ("after", "consumer", "ack"):
        if options[flag] not in (None, "", False):
            raise UserError(
                f"--all-users and --{flag} exclude each other", hint="each log has its own seq"
            )
    line = writer(options["format"])
    words = [word for text in options["filter"] for word in ("--filter", text)]
    for key in ("since", "until"):
        words += [f"--{key}", options[key]] if options[key] else []
    everybody = owners(layout)
    for event in backlog(everybody, words):
        sys.stdout.write(line(event) + "\n")
    sys.stdout.flush()
    if options["follow"]:
        for event in Machine(layout, everybody, words).events():
            sys.stdout.write(line(event) + "\n")
            sys.stdout.flush()
    return 0


def writer(template: str) -> Any:
    """An event as a line: for people, as JSON, or by a template over its fields."""
    if not template:
        return _text
    if template == "json":
        return lambda event: json.dumps(_without_text(event), separators=(",", ":"))
    from . import gotemplate

    if template.partition(" ")[0] in ("podman", "docker"):
        raise UserError("--all-users: the shapes of others have no owner", hint="--format json")
    gotemplate.parse(template)

    def line(event: dict[str, Any]) -> str:
        fields = {key[:1].upper() + key[1:]: value for key, value in _without_text(event).items()}
        fields["Owner"] = event["owner"]["name"]
        return printable.for_terminal(gotemplate.render(template, gotemplate.Record(fields)))

    return line


def _without_text(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "text"}


def _text(event: dict[str, Any]) -> str:
    actor = event["actor"]
    login = "none" if actor["loginuid"] == 4294967295 else actor["loginuid"]
    session = "none" if actor["session"] == 4294967295 else actor["session"]
    who = f"[{event['owner']['name']}, login {login}, session {session}]"
    return printable.line(f"{event['text']} {who}")
