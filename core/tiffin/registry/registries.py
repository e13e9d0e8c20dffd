"""registries.conf (containers-registries.conf(5), version 2): which registry a short name means,
where a registry's images really are, and which registries are not to be asked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from ..errors import UserError
from ..images import reference as references
from ..images.reference import Reference

VARIABLE = "CONTAINERS_REGISTRIES_CONF"
PULLS = ("", "all", "digest-only", "tag-only")


class Endpoint(Struct, frozen=True):
    """Where to ask for a repository."""

    registry: str
    repository: str
    insecure: bool = False
    """Plain HTTP, and any certificate, will do."""


class Config(Struct, frozen=True):
    search: tuple[str, ...] = ()
    """Registries in which short names are looked for; none: docker.io."""
    aliases: dict[str, str] = {}
    """Short name (without tag) -> full name."""
    registries: tuple[dict[str, Any], ...] = ()
    """Tables `[[registry]]`, each prefix once."""


def files() -> list[str]:
    """What is read, in this order; later ones win. A file that the variable names is the only
    one."""
    given = os.environ.get(VARIABLE)
    if given:
        return [given]
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    own, system = f"{config}/containers/registries.conf", "/etc/containers/registries.conf"
    found = [own if os.path.exists(own) else system]
    for folder in (f"{system}.d", f"{own}.d"):
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(".conf"))
        except OSError:
            continue
        found += [f"{folder}/{name}" for name in names]
    return found


def load() -> Config:
    """Error: UserError that names the file and what is wrong in it."""
    import tomllib  # 5 ms: only when a registry is asked

    search: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {}
    for path in files():
        try:
            with open(path, "rb") as file:
                document = tomllib.load(file)
        except FileNotFoundError:
            if os.environ.get(VARIABLE):
                raise UserError(f"{VARIABLE}: no such file: {path}") from None
            continue
        except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError as well
            raise UserError(f"cannot read {path}: {error}") from None
        try:
            if isinstance(document.get("registries"), dict):
                raise UserError(f"{path} is of version 1 of its format", hint="see podman's manual")
            listed = document.get("unqualified-search-registries")
            if listed is not None:
                search = tuple(_registry(text) for text in listed)
            aliases |= {str(key): str(value) for key, value in document.get("aliases", {}).items()}
            for table in document.get("registry", ()):
                found[_prefix(table)] = _checked(table)
        except (TypeError, AttributeError, ValueError) as error:
            raise UserError(f"{path} is not as it should be: {error}") from None
    return Config(
        search, {key: value for key, value in aliases.items() if value}, tuple(found.values())
    )


def _registry(text: str) -> str:
    if not references.REGISTRY.match(text):
        raise ValueError(f"{text!r} is not a registry")
    return text


def _prefix(table: dict[str, Any]) -> str:
    prefix = str(table.get("prefix") or table.get("location") or "").rstrip("/")
    if not prefix:
        raise ValueError("a [[registry]] has neither prefix nor location")
    return prefix


def _checked(table: dict[str, Any]) -> dict[str, Any]:
    mirrors = []
    for mirror in table.get("mirror", ()):
        if not mirror.get("location"):
            raise ValueError("a [[registry.mirror]] has no location")
        if mirror.get("pull-from-mirror", "") not in PULLS:
            raise ValueError(f"pull-from-mirror {mirror['pull-from-mirror']!r}")
        mirrors.append(mirror)
    return {
        "prefix": _prefix(table),
        "location": str(table.get("location") or "").rstrip("/"),
        "insecure": bool(table.get("insecure")),
        "blocked": bool(table.get("blocked")),
        "digests": bool(table.get("mirror-by-digest-only")),
        "mirrors": mirrors,
    }


def resolve(given: str, config: Config) -> list[Reference]:
    """What a name may mean, most likely first: one that names a registry is what it is; a short one
    is its alias, else it is looked for in each of the search registries. Error: UserError."""
    if not references.is_short(given):
        return [references.parse(given)]
    short = references.parse(given, references.LOCAL)
    alias = config.aliases.get(short.repository)
    if alias:
        version = f"@{short.digest}" if short.digest else f":{short.tag}"
        return [references.parse(f"{alias}{version}")]
    return [references.parse(given, registry) for registry in config.search or (references.DOCKER,)]


def _matches(prefix: str, name: str) -> bool:
    """By whole components; `*.example.com` takes all hosts below that."""
    if prefix.startswith("*."):
        host = name.partition("/")[0].partition(":")[0]
        return host.endswith(prefix[1:])
    return name == prefix or name.startswith((f"{prefix}/", f"{prefix}:", f"{prefix}@"))


def endpoints(reference: Reference, config: Config, *, push: bool = False) -> list[Endpoint]:
    """Where to ask for the image, in order: its mirrors, then where it is said to be. A push goes
    to the latter alone. Error: UserError for one that is blocked."""
    name = f"{reference.registry}/{reference.repository}"
    fitting = [table for table in config.registries if _matches(table["prefix"], name)]
    if not fitting:
        return [Endpoint(reference.registry, reference.repository)]
    table = max(fitting, key=lambda one: len(one["prefix"]))
    if table["blocked"]:
        raise UserError(
            f"{reference}: registry {table['prefix']} is blocked", hint="see registries.conf"
        )
    found = []
    for mirror in () if push else table["mirrors"]:
        which = mirror.get("pull-from-mirror", "") or ("digest-only" if table["digests"] else "all")
        if which == "all" or (which == "digest-only") == bool(reference.digest):
            found.append(_at(str(mirror["location"]), name, table, bool(mirror.get("insecure"))))
    found.append(_at(table["location"], name, table, table["insecure"]))
    return found


def _at(location: str, name: str, table: dict[str, Any], insecure: bool) -> Endpoint:
    """The prefix replaced by the location. Error: UserError for a location that is none."""
    rest = name
    if location and not table["prefix"].startswith("*."):
        rest = f"{location.rstrip('/')}{name.removeprefix(table['prefix'])}"
    elif location:
        rest = f"{location.rstrip('/')}/{name.partition('/')[2]}"
    registry, _, repository = rest.partition("/")
    if not references.REGISTRY.match(registry) or not repository:
        raise UserError(f"registries.conf: location {location!r} is no registry")
    return Endpoint(registry, repository, insecure)


def names(given: str) -> Iterable[str]:
    """Full names under which an image of this short name may be here, by registries.conf."""
    if not references.is_short(given):
        return ()
    return [reference.tagged or str(reference) for reference in resolve(given, load())]
