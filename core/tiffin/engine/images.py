"""Images: found, pulled, registered, tagged, removed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from msgspec import Struct

from ..content import ContentStore
from ..errors import Conflict, NotFound, RegistryError, TiffinError, UserError
from ..events.image import (
    ImageAdded,
    ImageRemovalPlanned,
    ImageRemoved,
    ImageTagged,
    ImageUntagged,
    PullFailed,
    PullFinished,
    PullPlanned,
)
from ..images import manifest, platform, reference
from ..images.manifest import ImageConfig
from ..store import queries
from ..transfer import Fetched, Layer, Progress
from . import garbage
from . import layers as unpacked
from .base import Engine, Journal, new_command

if TYPE_CHECKING:
    from ..registry.auth import Credentials

EMBEDDED = "embedded:"
UNUSED_STEP = """
SELECT * FROM images WHERE id=? AND id IN (SELECT image FROM image_steps)
AND id NOT IN (SELECT image FROM tags) AND id NOT IN (SELECT parent FROM image_steps)
AND id NOT IN (SELECT image_id FROM containers) AND id NOT IN (SELECT image FROM image_mounts)
"""
"""An image of a build's step that has no name and that nothing is made of."""

USERS = "SELECT id, name FROM containers WHERE image_id=? OR instr(options, ?)"
"""The containers made from an image, and those that mount it."""


class Pull(Struct, frozen=True):
    """When and how an image is fetched."""

    policy: str = "missing"
    """`always`, `missing`, `newer` or `never`."""
    platform: str = ""
    tls_verify: bool = True
    progress: Progress | None = None
    credentials: Credentials | None = None
    """None: the login of auth.json."""


class Usable(Struct, frozen=True):
    """An image whose layers the storage driver has."""

    id: str
    name: str
    config: dict[str, Any]
    layers: tuple[str, ...]
    """Chain ids, lowest first."""


@asynccontextmanager
async def in_use(engine: Engine) -> AsyncIterator[None]:
    """While images are being added or used: `rmi`, which takes the lock alone, waits."""
    async with engine.locks.named(garbage.lock(engine), shared=True):
        yield


async def find(engine: Engine, given: str) -> queries.Row | None:
    """An image by name, id, unique prefix or digest. Errors: UserError (ambiguous or no name)."""
    for name in candidates(given):
        found = await engine.store.rows(queries.IMAGE_BY_TAG, (name,))
        if found:
            return found[0]
    digest = given.removeprefix("sha256:")
    if queries.is_hex(digest):
        bounds = queries.prefix_range("sha256:" + digest)
        found = await engine.store.rows(queries.IMAGE_BY_PREFIX, bounds)
        if found:
            return queries.one(found, given, "image")
    if not given.startswith(("sha256:", EMBEDDED)) and reference.is_short(given):
        from ..registry import registries  # only for names that mean nothing otherwise

        for name in registries.names(given):
            found = await engine.store.rows(queries.IMAGE_BY_TAG, (name,))
            if found:
                return found[0]
    wanted = given.partition("@")[2] or given
    if wanted.startswith("sha256:"):
        found = await engine.store.rows(queries.IMAGE_BY_MANIFEST, (wanted, wanted))
        if found:
            return found[0]
    return None


def candidates(given: str) -> Sequence[str]:
    """Full names that a text may stand for; none for what can only be an id."""
    if given.startswith("sha256:"):
        return ()
    return reference.candidates(given)


async def need(engine: Engine, given: str) -> queries.Row:
    """`find`, or NotFound."""
    row = await find(engine, given)
    if row is None:
        raise NotFound(f"no such image: {given}", hint="tiffin images shows those there are")
    return row


async def unpacked_by(engine: Engine, image_id: str, driver: str) -> None:
    """Unpack what a storage driver does not have yet of an image. Errors: NotFound, ImageError,
    StorageFull."""
    row = await need(engine, image_id)
    described = tuple(msgspec.convert(layer, Layer) for layer in row["layers"])
    await unpacked.ensure(engine, engine.journal(), driver, described)


def read_config(engine: Engine, image_id: str) -> ImageConfig:
    """The config blob of an image. Errors: NotFound, Corrupt, ImageError."""
    content = ContentStore(engine.layout.blobs)
    return manifest.parse_config(content.read(image_id, manifest.MAX_CONFIG))


def wanted_platform(given: str) -> platform.Platform:
    """--platform, or this machine's."""
    return platform.parse(given) if given else platform.host()


async def obtain(engine: Engine, given: str, *, driver: str, pull: Pull) -> Usable:
    """An image ready for a container: from here, or fetched as the policy says.

    Errors: NotFound, RegistryError, ImageError, StorageFull, UserError.
    """
    if pull.policy not in ("always", "missing", "newer", "never"):
        raise UserError(f"--pull {pull.policy!r}", hint="always, missing, newer or never")
    local = pull.policy in ("missing", "never") or given.startswith(EMBEDDED)
    here = await find(engine, given) if local or pull.policy == "newer" else None
    row = here if local else None
    if row is None:
        if pull.policy == "never":
            raise NotFound(f"no such image: {given}", hint="and --pull=never forbids to fetch it")
        by_id = queries.is_hex(given.removeprefix("sha256:")) and len(given) >= 12
        if by_id and here is None:
            raise NotFound(f"no such image: {given}")
        if here is None:
            image_id = await fetch(engine, given, driver=driver, pull=pull)
        else:
            image_id = await _newer(engine, given, here["id"], driver=driver, pull=pull)
        row = (await engine.store.rows("SELECT * FROM images WHERE id=?", (image_id,)))[0]
    described = tuple(msgspec.convert(layer, Layer) for layer in row["layers"])
    await unpacked.ensure(engine, engine.journal(), driver, described)
    config = read_config(engine, row["id"])
    manifest.check_platform(config, wanted_platform(pull.platform))
    tags = await engine.store.rows("SELECT name FROM tags WHERE image=?", (row["id"],))
    names = [tag["name"] for tag in tags]
    named = [name for name in names if name in candidates(given)] or names
    return Usable(
        id=row["id"],
        name=named[0] if named else row["id"][7:19],
        config=dict(config.config),
        layers=tuple(layer.chain_id for layer in described),
    )


async def _newer(engine: Engine, given: str, here: str, *, driver: str, pull: Pull) -> str:
    """The image that the registry has, or the one that is here when that cannot be had."""
    image_id = here
    try:
        image_id = await fetch(engine, given, driver=driver, pull=pull)
    except* TiffinError:  # perhaps in a group; the log of events has it
        pass
    return image_id


async def fetch(engine: Engine, given: str, *, driver: str, pull: Pull) -> str:
    """Pull from a registry, or make an embedded image; returns the image's id."""
    if given.startswith(EMBEDDED):
        return await _embedded(engine, given, driver)
    from ..registry import registries

    found = registries.resolve(given, registries.load())
    for wanted in found[:-1]:
        try:
            return await _fetch(engine, wanted, driver=driver, pull=pull)
        except* (NotFound, RegistryError):  # then in the next of the search registries
            pass
    return await _fetch(engine, found[-1], driver=driver, pull=pull)


async def _fetch(engine: Engine, wanted: reference.Reference, *, driver: str, pull: Pull) -> str:
    from .. import transfer

    content = ContentStore(engine.layout.blobs)
    journal = engine.journal()
    async with _transfer(engine, journal, f"pull {wanted}", str(wanted), driver) as done:
        unpacker = unpacked.Unpacker(engine, journal, driver)

        async def on_layer(layer: Layer, below: tuple[Layer, ...]) -> None:
            await unpacker.unpack(layer, tuple(b.chain_id for b in below))

        fetched = await transfer.pull(
            wanted,
            content,
            platform=pull.platform,
            tls_verify=pull.tls_verify,
            progress=pull.progress,
            on_layer=on_layer,
            credentials=pull.credentials,
        )
        image_id: str = await done(fetched, unpacker.usage)
        return image_id


async def _embedded(engine: Engine, given: str, driver: str) -> str:
    from .. import embedded

    content = ContentStore(engine.layout.blobs)
    async with _transfer(engine, engine.journal(), given, given, driver) as done:
        fetched = await trio.to_thread.run_sync(embedded.make, given, content)
        image_id: str = await done(fetched, None)
        return image_id


async def add_all(
    engine: Engine, source: str, driver: str, fetched: Sequence[Fetched]
) -> list[str]:
    """Unpack and register images whose blobs are in the content store (load, import, commit)."""
    found = []
    journal = engine.journal()
    async with _transfer(engine, journal, source, source, driver) as done:
        for image in fetched:
            found.append(await done(image, None))
    return found


@asynccontextmanager
async def _transfer(
    engine: Engine, journal: Journal, source: str, name: str, driver: str
) -> AsyncIterator[Any]:
    """Intent and outcome of a transfer around its work; gives the function that registers."""
    stream = f"transfer/{new_command()}"
    added: list[str] = []

    async def done(fetched: Fetched, usage: Any) -> str:
        unpacker = unpacked.Unpacker(engine, journal, driver)
        if usage is None:
            await unpacked.ensure(engine, journal, driver, fetched.layers, fresh=True)
        sizes = await engine.store.rows(
            "SELECT chain_id, size FROM layers WHERE driver=?", (unpacker.name,)
        )
        own = {layer.chain_id for layer in fetched.layers}
        size = sum(row["size"] for row in sizes if row["chain_id"] in own)
        await _register(engine, journal, fetched, source, size)
        added.append(fetched.config_digest)
        return fetched.config_digest

    async with garbage.none_left(engine), in_use(engine):
        await journal.write(
            stream, PullPlanned(source=source, reference=name, storage_driver=driver)
        )
        try:
            yield done
        except BaseException as error:
            with trio.CancelScope(shield=True):
                while isinstance(error, BaseExceptionGroup):
                    error = error.exceptions[0]
                why = str(error) or type(error).__name__
                await journal.write(stream, PullFailed(error=why))
            raise
        await journal.write(stream, PullFinished(image_ids=tuple(added)))


async def _register(
    engine: Engine, journal: Journal, fetched: Fetched, source: str, size: int
) -> None:
    """The image and its names, in one transaction; what is known already is not said again."""
    stream = f"image/{fetched.config_digest}"
    known = await engine.store.rows(
        "SELECT manifest FROM images WHERE id=?", (fetched.config_digest,)
    )
    if not known or known[0]["manifest"] != fetched.manifest:
        journal.note(
            stream,
            ImageAdded(
                manifest=fetched.manifest,
                media_type=fetched.media_type,
                index=fetched.index,
                source=source,
                architecture=fetched.config.architecture,
                os=fetched.config.os,
                created=_time(fetched.config.created),
                size=size,
                labels=dict(fetched.config.config.get("Labels") or {}),
                layers=tuple(msgspec.to_builtins(layer) for layer in fetched.layers),
            ),
        )
    for name in fetched.names:
        tagged = await engine.store.rows("SELECT image FROM tags WHERE name=?", (name,))
        if not tagged or tagged[0]["image"] != fetched.config_digest:
            journal.note(stream, ImageTagged(name=name))
    await journal.flush()


def _time(text: str) -> int:
    """RFC 3339 to ns; 0 for what is none."""
    from ..units import parse_rfc3339

    try:
        return parse_rfc3339(text) if text else 0
    except (UserError, ValueError):
        return 0


async def tag(engine: Engine, given: str, names: Sequence[str]) -> None:
    """Give an image more names. Errors: NotFound, UserError."""
    row = await need(engine, given)
    journal = engine.journal()
    for name in names:
        event = ImageTagged(name=reference.local_name(name))
        journal.note(f"image/{row['id']}", event)
    await journal.flush()


async def untag(engine: Engine, given: str, names: Sequence[str] = ()) -> None:
    """Take names away from an image, all of them when none is given."""
    row = await need(engine, given)
    tags = await engine.store.rows("SELECT name FROM tags WHERE image=?", (row["id"],))
    have = {tag["name"] for tag in tags}
    wanted = set()
    for name in names:
        matching = have & set(candidates(name))
        if not matching:
            raise NotFound(f"image {given} has no name {name!r}")
        wanted |= matching
    journal = engine.journal()
    for name in sorted(wanted or have):
        journal.note(f"image/{row['id']}", ImageUntagged(name=name))
    await journal.flush()


async def remove(
    engine: Engine, given: str, *, force: bool = False, every_name: bool = False
) -> list[str]:
    """`rmi`: take the name away; with the last one the image goes, and what only it used.

    `force` removes the containers that use it first, and then the image whatever its names are;
    `every_name` alone does only the second. Returns lines as podman prints them. Errors:
    NotFound, Conflict while a container uses it.
    """
    if force:
        await _remove_containers(engine, given)
        await _unmount(engine, given)
    async with engine.locks.named(garbage.lock(engine)):
        row = await need(engine, given)
        image_id = row["id"]
        stream = f"image/{image_id}"
        tags = await engine.store.rows("SELECT name FROM tags WHERE image=?", (image_id,))
        names = [tag["name"] for tag in tags]
        by_name = [name for name in candidates(given) if name in names]
        journal = engine.journal()
        if by_name and len(names) > 1:
            await journal.write(stream, ImageUntagged(name=by_name[0]))
            return [f"Untagged: {by_name[0]}"]
        if len(names) > 1 and not (force or every_name):
            raise Conflict(
                f"image {given} has several names: {', '.join(names)}", hint="use rmi --force"
            )
        users = await engine.store.rows(f"{USERS} LIMIT 1", (image_id, image_id))
        if users:
            raise Conflict(
                f"image {given} is used by container {users[0]['name']}",
                hint="remove that first, or use rmi --force",
            )
        mounted = await engine.store.rows(
            "SELECT id FROM image_mounts WHERE image=? LIMIT 1", (image_id,)
        )
        if mounted:
            raise Conflict(f"image {given} is mounted", hint="unmount it first, or use rmi --force")
        deleted = await _delete_with_steps(engine, journal, row)
        lines = [f"Untagged: {name}" for name in names]
        return [*lines, *(f"Deleted: {one[7:]}" for one in deleted)]


async def remove_steps(engine: Engine, image_id: str) -> None:
    """Remove an image of a build's step, and those that it was made of, if nothing uses them."""
    async with engine.locks.named(garbage.lock(engine)):
        for row in await engine.store.rows(UNUSED_STEP, (image_id,)):
            await _delete_with_steps(engine, engine.journal(), row)


async def _delete_with_steps(engine: Engine, journal: Journal, row: queries.Row) -> list[str]:
    """Delete an image, and then the images of the build's steps that it was made of, as far as
    nothing else is made of them. The caller holds the lock alone. Returns the ids."""
    deleted = []
    waiting = [row]
    while waiting:
        row = waiting.pop()
        sql = "SELECT parent FROM image_steps WHERE image=?"
        parents = await engine.store.rows(sql, (row["id"],))
        stream = f"image/{row['id']}"
        blobs, gone = await _unused(engine, row)
        await journal.write(stream, ImageRemovalPlanned(blobs=tuple(blobs), layers=tuple(gone)))
        await garbage.delete(engine, journal, blobs, gone)
        await journal.write(stream, ImageRemoved())
        deleted.append(row["id"])
        for parent in parents:
            waiting += await engine.store.rows(UNUSED_STEP, (parent["parent"],))
    return deleted


async def _remove_containers(engine: Engine, given: str) -> None:
    from . import remove as removal

    row = await need(engine, given)
    users = await engine.store.rows(USERS, (row["id"], row["id"]))
    for user in users:
        await removal.remove(engine, user["id"], force=True)


async def _unmount(engine: Engine, given: str) -> None:
    from . import image_mounts

    await image_mounts.unmount(engine, given, force=True)


async def _unused(engine: Engine, row: queries.Row) -> tuple[list[str], list[tuple[str, str]]]:
    """(blobs, unpacked layers) that nothing but this image uses."""
    others = await engine.store.rows("SELECT * FROM images WHERE id<>?", (row["id"],))
    kept_blobs: set[str] = set()
    kept_layers: set[str] = set()
    for other in others:
        kept_blobs |= {other["id"], other["manifest"], other["index_digest"]}
        kept_blobs |= {layer["digest"] for layer in other["layers"]}
        kept_layers |= {layer["chain_id"] for layer in other["layers"]}
    for container in await engine.store.rows("SELECT layers FROM containers"):
        kept_layers |= set(container["layers"])
    own = {row["id"], row["manifest"], row["index_digest"]}
    own |= {layer["digest"] for layer in row["layers"]}
    chain = {layer["chain_id"] for layer in row["layers"]} - kept_layers
    have = await engine.store.rows("SELECT driver, chain_id FROM layers")
    gone = [(h["driver"], h["chain_id"]) for h in have if h["chain_id"] in chain]
    return sorted(own - kept_blobs - {""}), sorted(gone)
