"""Secrets: values that containers are given, and that are nowhere else.

A value lies in one file of mode 0600 beneath the root directory. A container that runs has it in a
tmpfs of its own run directory; events, `inspect`, config.json as it is kept, and images have not.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from .. import ids, syscalls
from ..content import sync_directory
from ..errors import Conflict, NotFound, UserError
from ..events.secret import (
    SecretCreated,
    SecretCreationFailed,
    SecretCreationPlanned,
    SecretRemovalPlanned,
    SecretRemoved,
)
from ..options import ContainerOptions, Secret
from ..store import queries
from .base import Engine, Journal
from .hold import Held

LARGEST = 512000
"""Bytes of a value, as in podman."""
PLACE = "/run/secrets"
MS_NOSUID, MS_NODEV, MS_NOEXEC, MNT_DETACH = 2, 4, 8, 2


def path(engine: Engine, sid: str) -> str:
    return f"{engine.layout.root}/secrets/{sid}"


def lock(engine: Engine) -> str:
    """Held by who makes or removes a secret; whatever is open then belongs to the dead."""
    return f"{engine.layout.run}/locks/secrets"


async def find(engine: Engine, given: str) -> queries.Row:
    """By name, id, or the beginning of an id. Errors: NotFound, UserError."""
    rows = await engine.store.rows(queries.SECRETS)
    return queries.find_secret(rows, given)


# --- by themselves --------------------------------------------------------------------------------


async def create(
    engine: Engine, name: str, value: bytes, labels: Mapping[str, str], *, override: bool = False
) -> str:
    """Returns the id. Errors: UserError, Conflict when the name is taken, StorageFull."""
    ids.check_name(name, "secret")
    if not 0 < len(value) < LARGEST:
        raise UserError(f"secret {name}: it must have from 1 to {LARGEST - 1} bytes")
    async with engine.locks.named(lock(engine)):
        await _mend(engine)
        journal = engine.journal()
        for row in await engine.store.rows("SELECT * FROM secrets WHERE name=?", (name,)):
            if not override:
                raise Conflict(f"secret name {name!r} is in use", hint="rm it, or --replace")
            await _remove(engine, journal, row["id"], name)
        sid = ids.new_id()[:25]
        stream = f"secret/{sid}"
        await journal.write(stream, SecretCreationPlanned(name=name, labels=labels))
        try:
            os.makedirs(os.path.dirname(path(engine, sid)), mode=0o700, exist_ok=True)
            _write(path(engine, sid), value)
        except BaseException as error:
            _delete(engine, sid)
            await journal.write(stream, SecretCreationFailed(error=type(error).__name__))
            raise
        await journal.write(stream, SecretCreated())
        return sid


def _write(file_name: str, value: bytes, mode: int = 0o600) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(file_name, flags, 0o600), "wb") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), mode)


def _delete(engine: Engine, sid: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path(engine, sid))


async def remove(engine: Engine, given: str) -> str:
    """Returns the id. A container that runs keeps what it was given. Error: NotFound."""
    async with engine.locks.named(lock(engine)):
        await _mend(engine)
        row = await find(engine, given)
        await _remove(engine, engine.journal(), row["id"], row["name"])
        return str(row["id"])


async def _remove(engine: Engine, journal: Journal, sid: str, name: str) -> None:
    await journal.write(f"secret/{sid}", SecretRemovalPlanned(name=name))
    _delete(engine, sid)
    await journal.write(f"secret/{sid}", SecretRemoved())


async def _mend(engine: Engine) -> list[str]:
    """Undo what dead processes were making, finish what they were removing."""
    mended = []
    intents = "SELECT * FROM intents WHERE stream LIKE 'secret/%' ORDER BY seq"
    for intent in await engine.store.rows(intents):
        _delete(engine, intent["stream"].partition("/")[2])
        made = intent["operation"] == "create"
        outcome = SecretCreationFailed(error="killed") if made else SecretRemoved()
        await engine.journal().write(intent["stream"], outcome)
        mended.append(f"{intent['stream'].replace('/', ' ', 1)}: removed")
    return mended


async def recover(engine: Engine) -> list[str]:
    async with engine.locks.named(lock(engine)):
        return await _mend(engine)


# --- with containers ------------------------------------------------------------------------------


class Placed(Struct, frozen=True):
    """What a container that is about to be made gets."""

    files: tuple[tuple[str, str], ...]
    """(place in the container, file on the host)"""
    env: dict[str, str]


async def settle(engine: Engine, options: ContainerOptions) -> ContainerOptions:
    """The options with the ids of the secrets. Errors: NotFound, UserError."""
    found = []
    taken: set[tuple[str, str]] = set()
    for secret in options.secrets:
        row = await find(engine, secret.name)
        target = secret.target or row["name"]
        if (secret.type, target) in taken:
            raise UserError(f"--secret {secret.name}: two secrets for {target}")
        taken.add((secret.type, target))
        found.append(replace(secret, name=row["name"], id=row["id"], target=target))
    return replace(options, secrets=tuple(found))


def directory(engine: Engine, cid: str) -> str:
    return f"{engine.layout.container_run(cid)}/secrets"


async def place(held: Held, options: ContainerOptions) -> Placed:
    """Put the values, as they are now, into a tmpfs of the container's run directory.
    Error: NotFound for one that was removed."""
    engine = held.engine
    values = [(secret, await _value(held, secret)) for secret in options.secrets]
    own = directory(engine, held.id)
    os.makedirs(own, mode=0o700, exist_ok=True)
    room = sum(len(value) for _, value in values) * 3 + (1 << 20)
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    syscalls.mount("tiffin-secrets", own, "tmpfs", flags, f"mode=0700,size={room}")
    env: dict[str, str] = {}
    files: list[tuple[str, str]] = []
    shared = f"{own}/files"
    os.mkdir(shared, 0o755)
    for number, (secret, value) in enumerate(values):
        if secret.type == "env":
            env[secret.target] = _text(secret, value)
            continue
        absolute = secret.target.startswith("/")
        file = f"{own}/{number}" if absolute else f"{shared}/{secret.target}"
        _write(file, value, secret.mode)
        os.chown(file, secret.uid, secret.gid)
        os.chmod(file, secret.mode)
        if absolute:
            files.append((secret.target, file))
    if os.listdir(shared):
        os.chmod(shared, 0o755)
        files.insert(0, (PLACE, shared))
    if env:
        _write(f"{own}/env.json", json.dumps(env).encode())
    return Placed(tuple(files), env)


def labelled(placed: Placed) -> list[str]:
    """The files that must have the container's label."""
    found = []
    for _, file in placed.files:
        found.append(file)
        if os.path.isdir(file):
            found += [f"{file}/{name}" for name in os.listdir(file)]
    return found


async def _value(held: Held, secret: Secret) -> bytes:
    rows = await held.engine.store.rows(queries.SECRETS)
    same = [row for row in rows if row["id"] == secret.id]
    try:  # it, or the one that has its name by now
        row = (same or [row for row in rows if row["name"] == secret.name])[0]
        with open(path(held.engine, row["id"]), "rb") as file:
            return file.read()
    except (IndexError, FileNotFoundError):
        raise NotFound(
            f"secret {secret.name} of container {held.row['name']} was removed",
            hint=f"tiffin secret create {secret.name} FILE",
        ) from None


def _text(secret: Secret, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"--secret {secret.name},type=env: it is no text", hint="type=mount")
    return text


@contextmanager
def shown(held: Held, document: dict[str, Any], env: Mapping[str, str]) -> Iterator[None]:
    """While the runtime creates the container, config.json is a link to one in the tmpfs that has
    the secret variables; what is kept on disk never had them."""
    process = document["process"]
    kept = [item for item in process["env"] if item.partition("=")[0] not in env]
    full = [*kept, *(f"{name}={value}" for name, value in env.items())]
    secret = f"{directory(held.engine, held.id)}/config.json"
    _write(secret, json.dumps({**document, "process": {**process, "env": full}}).encode())
    config, aside = f"{held.row['directory']}/config.json", f"{held.row['directory']}/config.kept"
    os.rename(config, aside)
    try:
        os.symlink(secret, config)
        yield
    finally:
        os.rename(aside, config)
        sync_directory(held.row["directory"])
        os.unlink(secret)


def mend_link(config: str) -> None:
    """A process was killed in `shown`: the link is in the way of a new file."""
    if os.path.islink(config):
        os.unlink(config)


def environment(engine: Engine, row: queries.Row) -> dict[str, str]:
    """The secret variables of a container that runs."""
    try:
        with open(f"{directory(engine, row['id'])}/env.json", "rb") as file:
            found: dict[str, str] = json.load(file)
            return found
    except OSError:
        return {}


def forget(engine: Engine, cid: str) -> None:
    """The tmpfs goes, with all that is in it."""
    with contextlib.suppress(OSError):  # it was not mounted
        while True:
            syscalls.umount2(directory(engine, cid), MNT_DETACH)
