"""Reading the projections: plain dicts, JSON columns decoded. No trio, no msgspec: every `ps` pays
for what this module imports."""

from __future__ import annotations

from ..errors import NotFound, UserError
from .jsontext import loads

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from typing import Any

    Row = dict[str, Any]
else:
    Row = dict

JSON_COLUMNS = frozenset(
    "command ports labels layers options attachments security_labels id_maps config actor data "
    "share namespaces manifests".split()
)


def rows(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
    """Run a query and decode its rows."""
    cursor = connection.execute(sql, parameters)
    return decode([column[0] for column in cursor.description], cursor.fetchall())


def decode(names: Sequence[str], values: Iterable[Sequence[Any]]) -> list[Row]:
    """Rows as dicts; the columns that hold JSON are decoded (`command` of an event is not JSON)."""
    written = [name for name in names if name in JSON_COLUMNS]
    found = [dict(zip(names, row, strict=True)) for row in values]
    for row in found:
        for name in written:
            value = row[name]
            if isinstance(value, str) and value[:1] in ("[", "{"):
                row[name] = loads(value)
    return found


CONTAINERS = "SELECT * FROM containers ORDER BY created"
LISTED = (
    "SELECT id, name, state, image_name, command, created, started, finished, exit_code, health, "
    "network, ports FROM containers ORDER BY created"
)
"""What a list shows of them: to read and decode all of their columns takes four times as long."""
IMAGES = "SELECT * FROM images ORDER BY created DESC, id"
STEPS = (
    "SELECT images.id FROM images JOIN image_steps ON image_steps.parent=images.id "
    "WHERE images.id NOT IN (SELECT image FROM tags)"
)
"""Images of a build's steps that others were made of, and that have no name."""
TAGS = "SELECT name, image FROM tags ORDER BY name"
SECRETS = "SELECT * FROM secrets WHERE complete ORDER BY name"
NETWORKS = "SELECT * FROM networks ORDER BY name"
CONTAINER_BY_NAME = "SELECT * FROM containers WHERE name=?"
CONTAINER_BY_ID = "SELECT * FROM containers WHERE id=?"
CONTAINER_BY_PREFIX = "SELECT * FROM containers WHERE id>=? AND id<? ORDER BY id LIMIT 2"
IMAGE_BY_TAG = "SELECT images.* FROM tags JOIN images ON images.id=tags.image WHERE tags.name=?"
IMAGE_BY_PREFIX = "SELECT * FROM images WHERE id>=? AND id<? ORDER BY id LIMIT 2"
IMAGE_BY_MANIFEST = "SELECT * FROM images WHERE manifest=? OR index_digest=? LIMIT 1"


def is_hex(text: str) -> bool:
    return bool(text) and all(c in "0123456789abcdef" for c in text)


def prefix_range(prefix: str) -> tuple[str, str]:
    """Bounds for `id >= low AND id < high`: an index range instead of LIKE."""
    return prefix, prefix + "g"


def one(found: list[Row], given: str, what: str) -> Row:
    """The only row, or the error that says why there is not exactly one."""
    if not found:
        raise NotFound(f"no such {what}: {given}")
    if len(found) > 1:
        raise UserError(
            f"{given!r} is the beginning of several {what} ids", hint="give more digits"
        )
    return found[0]


def find_container(connection: sqlite3.Connection, given: str) -> Row:
    """By name, full id or unique prefix of an id."""
    found = rows(connection, CONTAINER_BY_NAME, (given,))
    if not found and is_hex(given):
        found = rows(connection, CONTAINER_BY_PREFIX, prefix_range(given))
    return one(found, given, "container")


def find_secret(found: list[Row], given: str) -> Row:
    """One of SECRETS by name, id, or the beginning of an id."""
    exact = [row for row in found if given in (row["name"], row["id"])]
    return one(
        exact or [row for row in found if given and row["id"].startswith(given)], given, "secret"
    )


def find_image(connection: sqlite3.Connection, given: str, names: Sequence[str]) -> Row | None:
    """By one of the candidate full names (`images.reference` makes them), id, prefix or digest."""
    for name in names:
        found = rows(connection, IMAGE_BY_TAG, (name,))
        if found:
            return found[0]
    digest = given.removeprefix("sha256:")
    if is_hex(digest):
        found = rows(connection, IMAGE_BY_PREFIX, prefix_range("sha256:" + digest))
        if found:
            return one(found, given, "image")
        if len(digest) == 64:
            found = rows(connection, IMAGE_BY_MANIFEST, ("sha256:" + digest,) * 2)
            if found:
                return found[0]
    if "@sha256:" in given:
        wanted = given.partition("@")[2]
        found = rows(connection, IMAGE_BY_MANIFEST, (wanted, wanted))
        if found:
            return found[0]
    return None


def rfc3339(nanoseconds: int, *, fraction: bool = True) -> str:
    """`2026-11-25T06:38:16.571062864Z`, UTC; 0 is Go's zero time."""
    from time import gmtime, strftime

    if not nanoseconds:
        return "0001-01-01T00:00:00Z"
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))
    return f"{text}.{rest:09d}Z" if fraction else f"{text}Z"
