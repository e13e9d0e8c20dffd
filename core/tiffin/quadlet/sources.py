"""Where quadlet files are, which of several of one name counts, and what drop-ins add to it."""

from __future__ import annotations

import os

from ..errors import UserError
from . import unitfile

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

KINDS = ("container", "volume", "network", "pod", "image", "build", "kube")
NAMES = ("tiffin", "containers")
"""`/etc/tiffin/systemd` goes before `/etc/containers/systemd`, which podman reads as well."""
MAX_FILE = 1 << 20


class Source:
    """A file with its drop-ins."""

    __slots__ = ("name", "path", "text")

    def __init__(self, name: str, path: str, text: unitfile.UnitFile) -> None:
        self.name = name
        """As it is referred to: `web.container`, `sleep@10.container`."""
        self.path = path
        self.text = text

    @property
    def kind(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def directory(self) -> str:
        return os.path.dirname(self.path)


def search_path(
    environ: Mapping[str, str], *, user: bool, uid: int, names: Sequence[str] = NAMES
) -> list[str]:
    """Directories, the first one with a name counts."""
    if given := environ.get("QUADLET_UNIT_DIRS"):
        return [os.path.abspath(path) for path in given.split(":") if path]
    if not user:
        return [f"{top}/{name}/systemd" for top in ("/run", "/etc", "/usr/share") for name in names]
    found = []
    config = environ.get("XDG_CONFIG_HOME") or (
        f"{environ['HOME']}/.config" if environ.get("HOME") else ""
    )
    for top in (environ.get("XDG_RUNTIME_DIR", ""), config):
        if top.startswith("/"):
            found += [f"{top}/{name}/systemd" for name in names]
    for top in ("/etc", "/usr/share"):
        for below in (f"users/{uid}", "users"):
            found += [f"{top}/{name}/systemd/{below}" for name in names]
    return found


def directories(search: Sequence[str], *, user: bool) -> list[str]:
    """Those of the search path that are there, with all below them, each once."""
    seen: set[str] = set()
    return [path for top in search for path in _walk(top, seen, top, user=user)]


def _walk(directory: str, seen: set[str], top: str, *, user: bool) -> Iterator[str]:
    real = os.path.realpath(directory)
    if real in seen:
        return
    seen.add(real)
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    yield directory
    for name in names:
        path = f"{directory}/{name}"
        # `users` below root's is for the users, a number below `users` for one of them.
        others = name == "users" if not user else os.path.basename(top) == "users"
        if directory == top and others and (not user or name.isdecimal()):
            continue
        if not name.endswith(".d") and os.path.isdir(path):
            yield from _walk(path, seen, top, user=user)


def load(search: Sequence[str], *, user: bool) -> tuple[list[Source], list[str]]:
    """(the files with their drop-ins, what cannot be read and why)."""
    found: list[Source] = []
    problems: list[str] = []
    taken: set[str] = set()
    places = directories(search, user=user)
    for place in places:
        for name in sorted(os.listdir(place)):
            stem, _, kind = name.rpartition(".")
            path = f"{place}/{name}"
            if kind not in KINDS or not stem or name in taken or os.path.isdir(path):
                continue
            taken.add(name)
            if os.path.realpath(path) == "/dev/null":  # masked, as systemd's own
                continue
            try:
                check_name(stem)
                text = _read(path)
                for extra in dropins(name, places):
                    try:
                        text.merge(_read(extra))
                    except UserError as error:
                        raise UserError(f"{extra}: {error}") from None
            except UserError as error:
                problems.append(f"{path}: {error}")
                continue
            found.append(Source(name, path, text))
    return found, problems


def check_name(stem: str) -> None:
    """systemd takes no other names for units (systemd.unit(5))."""
    if not all(c.isascii() and (c.isalnum() or c in ":-_.\\@") for c in stem) or len(stem) > 200:
        raise UserError("systemd takes only letters, digits and :-_.\\@ in the names of units")


def dropins(name: str, places: Sequence[str]) -> list[str]:
    """Paths of the drop-ins of a file, in the order in which they count."""
    by_name: dict[str, str] = {}
    for folder in folders(name):
        here: set[str] = set()
        for place in places:
            try:
                entries = os.listdir(f"{place}/{folder}")
            except (FileNotFoundError, NotADirectoryError):
                continue
            for entry in entries:
                if entry.endswith(".conf") and entry not in here:
                    here.add(entry)
                    by_name[entry] = f"{place}/{folder}/{entry}"
    masked = (key for key, path in by_name.items() if os.path.realpath(path) == "/dev/null")
    for key in list(masked):
        del by_name[key]
    return [by_name[entry] for entry in sorted(by_name)]


def folders(name: str) -> list[str]:
    """Of `a-b@c.container`: container.d, a-.container.d, a-b@.container.d, a-b@c.container.d."""
    stem, _, kind = name.rpartition(".")
    found = [f"{kind}.d"]
    base, at, instance = stem.partition("@")
    pieces = base.split("-")
    found += [f"{'-'.join(pieces[:n])}-.{kind}.d" for n in range(1, len(pieces))]
    if instance:
        found.append(f"{base}{at}.{kind}.d")
    found.append(f"{stem}.{kind}.d")
    return found


def _read(path: str) -> unitfile.UnitFile:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise UserError(error.strerror or "it cannot be read") from None
    if len(data) > MAX_FILE:
        raise UserError("it is larger than 1 MiB")
    try:
        return unitfile.parse(data.decode())
    except UnicodeDecodeError:
        raise UserError("it is not UTF-8") from None
