"""Volumes that are mounts: those of driver `local` with the options type, device and o. One is
mounted with the first container that uses it, and unmounted after the last, or by hand."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import trio

from .. import programs, syscalls
from ..errors import Conflict, DriverError, UserError
from ..events.volume import VolumeMounted, VolumeMountPlanned, VolumeUnmounted, VolumeUnpinned
from ..store import queries
from .base import Engine, Journal

KEYS = ("type", "device", "o", "copy", "nocopy")
BINDS = ("bind", "rbind", "none", "")
OWNERS = ("uid", "gid")
STRICT = ("ro", "noexec", "nosuid", "nodev")


def parse(pairs: Iterable[str]) -> dict[str, str]:
    """`--opt KEY=VALUE`, each with nothing to ask the machine for. Error: UserError."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if key not in KEYS:
            raise UserError(f"--opt {pair!r} is not known", hint=f"known: {', '.join(KEYS)}")
        if key in ("copy", "nocopy"):
            found["o"] = ",".join(filter(None, (found.get("o", ""), key)))
            continue
        if not equals or not value or not value.isprintable():
            raise UserError(f"--opt {pair!r} has no usable value", hint=f"write {key}=VALUE")
        found[key] = f"{found['o']},{value}" if key == "o" and "o" in found else value
    words = words_of(found)
    kind, device = found.get("type", ""), found.get("device", "")
    if "copy" in words and "nocopy" in words:
        raise UserError("--opt copy and nocopy contradict each other")
    if kind in BINDS and not ({"bind", "rbind"} & {*words, kind}):
        if kind or device:
            raise UserError(
                f"--opt type={kind or '?'} does not say what to mount",
                hint="type=bind and device=/PATH, or type=tmpfs, or another file system's type",
            )
        for word in words:
            name, _, value = word.partition("=")
            if name == "size":
                raise UserError(f"--opt o={word}: a directory has no size", hint="add type=tmpfs")
            if name in OWNERS and not (value.isascii() and value.isdecimal()):
                raise UserError(f"--opt o={word}: {value!r} is not a number")
            if name not in (*OWNERS, "copy", "nocopy"):
                raise UserError(f"--opt o={word} needs a type", hint="type=tmpfs, type=bind, ...")
    elif kind in BINDS and not device.startswith("/"):
        raise UserError(f"--opt device={device}: a bind mount needs an absolute path")
    elif kind != "tmpfs" and not device:
        raise UserError(f"--opt type={kind} needs a device", hint="device=/dev/...")
    return found


def words_of(options: Mapping[str, str]) -> list[str]:
    return [word for word in options.get("o", "").split(",") if word]


def is_mount(row: queries.Row) -> bool:
    """Whether the volume is mounted somewhere, rather than a directory of its own."""
    words = words_of(row["options"])
    return "type" in row["options"] or "bind" in words or "rbind" in words


def copies(row: queries.Row) -> bool:
    """Whether an empty one is filled from the image of its first container."""
    return "nocopy" not in words_of(row["options"])


def own(row: queries.Row) -> None:
    """Give a plain volume's directory to whom `o=uid=,gid=` names."""
    found = dict(word.partition("=")[::2] for word in words_of(row["options"]))
    if not is_mount(row) and set(OWNERS) & set(found):
        os.chown(row["path"], int(found.get("uid", -1)), int(found.get("gid", -1)))


def inherited(row: queries.Row, given: tuple[str, ...]) -> tuple[str, ...]:
    """A bind mount of the volume has flags of its own: those of the volume, and what was asked for
    beside them."""
    more = [word for word in words_of(row["options"]) if word in STRICT and word not in given]
    if not is_mount(row) or not more:
        return given
    loose = {word.removeprefix("no") for word in more} | ({"rw"} if "ro" in more else set())
    return (*(word for word in given if word not in loose), *more)


def command(row: queries.Row) -> list[str]:
    """mount(8)."""
    options = row["options"]
    words = [word for word in words_of(options) if word not in ("copy", "nocopy")]
    kind, device = options.get("type", ""), options.get("device", "")
    if kind in BINDS:
        if not {"bind", "rbind"} & set(words):
            words.append(kind)
        kind = "none"
    argv = ["mount", "-t", kind]
    if words:
        argv += ["-o", ",".join(words)]
    return [*argv, "--", device or kind, row["path"]]


async def mount(engine: Engine, journal: Journal, row: queries.Row, container: str = "") -> None:
    """Mount a volume, unless that is done. The caller holds the volumes' lock. Error: DriverError
    that says what mount(8) said."""
    path, stream = row["path"], f"volume/{row['name']}"
    there = syscalls.is_mount_point(path)
    if there and row["mounted"]:
        return
    await journal.write(stream, VolumeMountPlanned(path=path, container=container))
    try:
        if not there:
            os.makedirs(path, mode=0o755, exist_ok=True)
            await programs.run(command(row))
    except BaseException as error:
        with trio.CancelScope(shield=True):
            unmount_now(path)
            await journal.write(stream, VolumeUnmounted())
        if isinstance(error, DriverError):
            raise DriverError(f"volume {row['name']}: {error.what}") from error
        raise
    await journal.write(stream, VolumeMounted())


def unmount_now(path: str) -> None:
    """Whatever is mounted there, perhaps several times."""
    while syscalls.is_mount_point(path):
        syscalls.umount2(path, syscalls.MNT_DETACH)


async def release(
    engine: Engine, journal: Journal, row: queries.Row, users: Sequence[queries.Row]
) -> bool:
    """Unmount a volume that none of its `users` has in use and nobody has pinned. The caller holds
    the volumes' lock. True when it did."""
    if not row["mounted"] or row["pinned"] or any(user["cgroup"] for user in users):
        return False
    await trio.to_thread.run_sync(unmount_now, row["path"])
    await journal.write(f"volume/{row['name']}", VolumeUnmounted())
    return True


async def pin(engine: Engine, given: str) -> str:
    """`volume mount`: returns the path."""
    from . import volumes

    journal = engine.journal()
    async with engine.locks.named(volumes.lock(engine)):
        row = await volumes.find(engine, given)
        if is_mount(row):
            await mount(engine, journal, row)
        else:
            os.makedirs(row["path"], mode=0o755, exist_ok=True)
        await journal.write(f"volume/{row['name']}", VolumeMounted(pinned=True))
    return str(row["path"])


async def unpin(engine: Engine, given: str) -> str:
    """`volume unmount`: returns the name. Error: Conflict when nobody has mounted it by hand."""
    from . import volumes

    journal = engine.journal()
    async with engine.locks.named(volumes.lock(engine)):
        row = await volumes.find(engine, given)
        if not row["pinned"]:
            raise Conflict(
                f"volume {row['name']} is not mounted by hand", hint="tiffin volume mount does that"
            )
        await journal.write(f"volume/{row['name']}", VolumeUnpinned())
        row["pinned"] = 0
        await release(engine, journal, row, await volumes.users(engine, row["name"]))
    return str(row["name"])


async def let_go(engine: Engine, container: queries.Row) -> None:
    """What a container that has ended kept mounted."""
    from . import volumes

    for name in volumes.of(container):
        rows = await engine.store.rows(volumes.BY_NAME, (name,))
        if rows and rows[0]["mounted"]:
            async with engine.locks.named(volumes.lock(engine)):
                rows = await engine.store.rows(volumes.BY_NAME, (name,))
                others = await volumes.users(engine, name)
                others = [user for user in others if user["id"] != container["id"]]
                if rows:
                    await release(engine, engine.journal(), rows[0], others)


async def recover(engine: Engine) -> list[str]:
    """What dead processes left mounted, or left open; the caller holds the volumes' lock."""
    from . import volumes

    mended = []
    for row in await engine.store.rows("SELECT * FROM volumes WHERE mounted"):
        journal, stream = engine.journal(), f"volume/{row['name']}"
        users = await volumes.users(engine, row["name"])
        if await release(engine, journal, row, users):
            mended.append(f"volume {row['name']}: unmounted")
            continue
        there = syscalls.is_mount_point(row["path"])
        opened = "SELECT 1 FROM intents WHERE stream=? AND operation='mount'"
        if there and await engine.store.rows(opened, (stream,)):
            await journal.write(stream, VolumeMounted())
            mended.append(f"volume {row['name']}: mounted")
        elif not there and is_mount(row):
            await journal.write(stream, VolumeUnmounted())  # the machine was restarted
            mended.append(f"volume {row['name']}: unmounted")
    return mended
