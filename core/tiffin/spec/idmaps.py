"""Which ids a container has: `--userns`, `--uidmap` and their like, subuid(5), and the choice of a
range that nobody else has. Pure; nothing is looked up here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from ..errors import UserError
from ..hooks import IdMaps, IdRange
from ..options import ContainerOptions

LARGEST = 2**32 - 2
"""The last id there is: the one after it means "none" (user_namespaces(7))."""
AUTO_SIZE = 65536
"""Ids of `--userns auto` without `size=`: all that distributions hand out, `nobody` among them."""
AUTO_SIZE_OF_USER = 1024
"""The same for an ordinary user, who has 65,536 in all, as a rule (podman's least as well)."""
AUTO_USER = "containers"
"""Whose ranges of /etc/subuid `auto` takes from, as podman does."""
AUTO_DEFAULT = IdRange(0, 0x70000000, 0x0FFE0000)
"""Taken from where that user has none: ids that nothing else hands out (systemd, UIDS-GIDS.md),
enough for 4,094 containers. Above 2^31 the kernel and many programs are not at ease."""
MODES = "host, auto, keep-id, nomap, ns:PATH or container:ID"
RANGES_MAX = 340
"""Lines that the kernel takes."""


class Wanted(Struct, frozen=True):
    """`--userns auto:...` or `keep-id:...`, read."""

    size: int = 0
    uids: tuple[IdRange, ...] = ()
    gids: tuple[IdRange, ...] = ()
    uid: int = -1
    gid: int = -1


def mode(options: ContainerOptions) -> str:
    """The word before the first colon; `maps` for the flags that name ranges; empty: the host's
    ids. Error: UserError for a word that is not known, or what does not go together."""
    word = options.userns.partition(":")[0]
    ranges = [*options.uid_maps, *options.gid_maps, options.subuid_name, options.subgid_name]
    if any(ranges):
        if word not in ("", "private"):
            raise UserError(
                f"--userns {options.userns} does not go with --uidmap, --gidmap, --subuidname or "
                "--subgidname"
            )
        named = options.subuid_name or options.subgid_name
        if named and (options.uid_maps or options.gid_maps):
            raise UserError("--subuidname and --subgidname do not go with --uidmap and --gidmap")
        return "maps"
    if word in ("", "host"):
        return ""
    if word == "private":
        raise UserError("--userns private needs --uidmap or --subuidname", hint="or --userns auto")
    if word not in ("auto", "keep-id", "nomap", "ns", "container"):
        raise UserError(f"--userns {options.userns!r} is not known", hint=MODES)
    if word in ("ns", "container") and len(options.userns) < len(word) + 2:
        raise UserError(f"--userns {options.userns!r} names none", hint=MODES)
    if word in ("auto", "keep-id"):
        wanted(options.userns)
    elif word == "nomap" and options.userns != word:
        raise UserError(f"--userns {options.userns!r}: nomap has no options")
    return word


def wanted(text: str) -> Wanted:
    """The options of `auto` and `keep-id`. Error: UserError."""
    word, _, rest = text.partition(":")
    size, uid, gid = 0, -1, -1
    uids: list[IdRange] = []
    gids: list[IdRange] = []
    for option in filter(None, rest.split(",")):
        key, _, value = option.partition("=")
        shown = f"--userns {word}:{option}"
        if word == "auto" and key == "size":
            size = number(value, shown)
        elif word == "auto" and key in ("uidmapping", "gidmapping"):
            (uids if key[0] == "u" else gids).append(parse_range(value, shown))
        elif word == "keep-id" and key == "uid":
            uid = number(value, shown)
        elif word == "keep-id" and key == "gid":
            gid = number(value, shown)
        else:
            known = "size=, uidmapping=, gidmapping=" if word == "auto" else "uid=, gid="
            raise UserError(f"{shown}: option {key!r} is not known", hint=known)
    if size > LARGEST:
        raise UserError(f"--userns {text}: there are not so many ids")
    return Wanted(size, tuple(uids), tuple(gids), uid, gid)


def number(text: str, shown: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= LARGEST):
        raise UserError(f"{shown}: {text!r} is not an id", hint=f"a number up to {LARGEST}")
    return int(text)


def parse_range(text: str, shown: str) -> IdRange:
    """`CONTAINER:HOST[:SIZE]`. Error: UserError."""
    parts = text.split(":")
    if not 2 <= len(parts) <= 3:
        raise UserError(f"{shown}: {text!r} is no range of ids", hint="CONTAINER:HOST[:SIZE]")
    inside, outside, *rest = (number(part, shown) for part in parts)
    size = rest[0] if rest else 1
    if not size:
        raise UserError(f"{shown}: a range of 0 ids")
    if max(inside, outside) + size - 1 > LARGEST:
        raise UserError(f"{shown}: ids above {LARGEST}")
    return IdRange(inside, outside, size)


def given(options: ContainerOptions) -> IdMaps:
    """--uidmap and --gidmap; one of them alone is for both. Errors: UserError."""
    uids = tuple(parse_range(text, "--uidmap") for text in options.uid_maps)
    gids = tuple(parse_range(text, "--gidmap") for text in options.gid_maps)
    return check(IdMaps(uids or gids, gids or uids), "--uidmap")


def check(maps: IdMaps, shown: str) -> IdMaps:
    """What the kernel would refuse, and what no container can do without. Error: UserError."""
    for noun, ranges in (("uid", maps.uids), ("gid", maps.gids)):
        if len(ranges) > RANGES_MAX:
            raise UserError(f"{shown}: {len(ranges)} ranges, the kernel takes {RANGES_MAX}")
        for side in ("inside", "outside"):
            before: IdRange | None = None
            for one in sorted(ranges, key=lambda each: getattr(each, side)):
                if before and getattr(before, side) + before.size > getattr(one, side):
                    where = "in the container" if side == "inside" else "on the host"
                    number = getattr(one, side)
                    raise UserError(f"{shown}: {noun} {number} {where} is in two ranges")
                before = one
        if to_host(ranges, 0) is None:
            raise UserError(f"{shown}: {noun} 0 of the container is in no range")
    return maps


def to_host(ranges: Sequence[IdRange], inside: int) -> int | None:
    """What an id of the container is called outside; None for one that it does not have."""
    return next(
        (r.outside + inside - r.inside for r in ranges if 0 <= inside - r.inside < r.size), None
    )


def to_container(ranges: Sequence[IdRange], outside: int) -> int | None:
    return next(
        (r.inside + outside - r.outside for r in ranges if 0 <= outside - r.outside < r.size), None
    )


# --- an ordinary user's: relative to their namespace, where 0 is they and their ranges follow -----


def kept(own: int, count: int, inside: int) -> tuple[IdRange, ...]:
    """`keep-id`: 0 of a namespace with `count` ids is `inside` in the container, and the others are
    around it, in order. `own`: what the user is called outside, for -1."""
    inside = own if inside < 0 else inside
    below = min(inside, count - 1)
    ranges = [IdRange(0, 1, below)] if below else []
    ranges.append(IdRange(inside, 0, 1))
    if count - 1 > below:
        ranges.append(IdRange(inside + 1, below + 1, count - 1 - below))
    return tuple(ranges)


def unmapped(count: int) -> tuple[IdRange, ...]:
    """`nomap`: all but the user's own."""
    return (IdRange(0, 1, count - 1),)


def relative(ranges: Sequence[IdRange], own: Sequence[IdRange]) -> tuple[IdRange, ...] | None:
    """Ranges of the machine's ids as a namespace with the ids `own` calls them; None for one that
    it does not have whole."""
    found = []
    for one in ranges:
        first = to_container(own, one.outside)
        last = to_container(own, one.outside + one.size - 1)
        if first is None or last is None or last - first != one.size - 1:
            return None
        found.append(IdRange(one.inside, first, one.size))
    return tuple(found)


# --- subuid(5) ------------------------------------------------------------------------------------


def subordinate(text: str, name: str, uid: int = -1) -> list[IdRange]:
    """Ranges of a user, by name or number; `inside` is 0 in all. Lines that are none are passed
    over."""
    found = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) != 3 or fields[0] not in (name, str(uid)):
            continue
        if not all(part.isascii() and part.isdecimal() for part in fields[1:]):
            continue
        start, size = int(fields[1]), int(fields[2])
        if size and start + size - 1 <= LARGEST:
            found.append(IdRange(0, start, size))
    return found


def joined(ranges: Iterable[IdRange]) -> tuple[IdRange, ...]:
    """Ranges one after the other, from 0 of the container on."""
    found = []
    inside = 0
    for one in ranges:
        found.append(IdRange(inside, one.outside, one.size))
        inside += one.size
    return tuple(found)


def free(pool: Sequence[IdRange], taken: Iterable[IdRange], size: int) -> int | None:
    """Where the first `size` ids of the pool begin that are in none of the ranges `taken`."""
    busy = sorted((one.outside, one.outside + one.size) for one in taken)
    for one in sorted(pool, key=lambda each: each.outside):
        start = one.outside
        for low, high in busy:
            if high <= start:
                continue
            if low >= start + size:
                break
            start = high
        if start + size <= one.outside + one.size:
            return start
    return None


def around(fixed: Sequence[IdRange], start: int, size: int) -> tuple[IdRange, ...]:
    """The container's ids 0 to `size`-1: those of `fixed` as it says, all others from `start` on,
    in order."""
    found = list(fixed)
    inside, outside = 0, start
    for one in sorted(fixed, key=lambda each: each.inside):
        if inside < min(one.inside, size):
            length = min(one.inside, size) - inside
            found.append(IdRange(inside, outside, length))
            outside += length
        inside = max(inside, one.inside + one.size)
    if inside < size:
        found.append(IdRange(inside, outside, size - inside))
    return tuple(sorted(found, key=lambda each: each.inside))
