"""Names of images: what a person may write, and what it means.

Grammar: the reference package of the distribution project, as docker and podman apply it. A full
name is `REGISTRY/REPOSITORY[:TAG][@DIGEST]`; a short one lacks the registry.

No third import beside `re`: `tiffin images` and `tiffin ps` come through here.
"""

from __future__ import annotations

import re

from ..errors import UserError

DOCKER = "docker.io"
LOCAL = "localhost"
"""The registry of names that were made here: `tag`, `commit`, `import`, `build`."""
LATEST = "latest"
MAX_NAME = 255
"""Characters of registry and repository together."""

TRANSPORTS = ("docker://", "containers-storage:")
"""What podman and skopeo put before a reference; dropped."""

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?\Z")
REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*\Z")
"""One component; `/` joins them."""
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_ID = re.compile(r"[0-9a-f]{64}\Z")


class Reference:
    """A full name. Immutable by convention; compares and hashes by its parts."""

    __slots__ = ("digest", "registry", "repository", "tag")

    def __init__(self, registry: str, repository: str, tag: str = "", digest: str = "") -> None:
        self.registry = registry
        """Host name, IPv4 or bracketed IPv6 address, perhaps with a port."""
        self.repository = repository
        self.tag = tag
        """Empty only when there is a digest."""
        self.digest = digest

    @property
    def name(self) -> str:
        """`registry/repository`."""
        return f"{self.registry}/{self.repository}"

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest when there is one, else the tag."""
        return self.digest or self.tag

    @property
    def tagged(self) -> str:
        """`registry/repository:tag`: the name that an image gets; empty when there is no tag."""
        return f"{self.name}:{self.tag}" if self.tag else ""

    def __str__(self) -> str:
        """As podman prints it: `localhost/bb:latest`."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def _key(self) -> tuple[str, str, str, str]:
        return self.registry, self.repository, self.tag, self.digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


def parse(text: str, default: str = DOCKER) -> Reference:
    """A name as a person writes it; a short one belongs to the registry `default`.

    `pull` takes docker.io, where `library/` is put before a single word; `tag`, `commit` and
    `import` take LOCAL. Error: UserError, one line.
    """
    registry, repository, tag, digest = _split(text)
    registry = registry or default
    if registry == "index.docker.io":
        registry = DOCKER
    if registry == DOCKER and "/" not in repository:
        repository = f"library/{repository}"
    return _checked(text, registry, repository, tag, digest)


def local_name(text: str) -> str:
    """The full name that `tag`, `commit` and `import` give. Error: UserError, also for a digest."""
    reference = parse(text, LOCAL)
    if reference.digest:
        raise UserError(f"{text!r} has a digest", hint="give a name and a tag only")
    return str(reference)


def is_short(text: str) -> bool:
    """True for a name without a registry (and not for an id)."""
    return not _ID.match(text.removeprefix("sha256:")) and not _split(text)[0]


def candidates(text: str) -> tuple[str, ...]:
    """The full names under which a local image may be stored, most likely first.

    A name with a digest stands for the digest: its tag is ignored, as podman does. Text that can
    be no name but may be an id (64 hex digits) has no candidates.
    """
    if _ID.match(text.removeprefix("sha256:")):
        return ()
    registry, repository, tag, digest = _split(text)
    if registry:
        full = parse(text)
        return (str(_without_tag(full)),)
    bare = f"{repository}@{digest}" if digest else f"{repository}:{tag or LATEST}"
    return (bare, str(_without_tag(parse(text, LOCAL))), str(_without_tag(parse(text))))


def _without_tag(reference: Reference) -> Reference:
    if not reference.digest:
        return reference
    return Reference(reference.registry, reference.repository, "", reference.digest)


def _split(text: str) -> tuple[str, str, str, str]:
    """(registry or empty, repository, tag or empty, digest or empty), unchecked but for shape."""
    rest = text
    for transport in TRANSPORTS:
        rest = rest.removeprefix(transport)
    if not rest:
        raise UserError("an image's name is empty", hint="give one such as docker.io/library/NAME")
    if _ID.match(rest):
        raise UserError(
            f"{text!r} is an image's id, not its name", hint="a name cannot be 64 hex digits"
        )
    rest, at, digest = rest.partition("@")
    if at and not DIGEST.match(digest):
        raise _bad(text, f"{digest!r} is not a digest (sha256: and 64 hex digits)")
    first, slash, after = rest.partition("/")
    registry = ""
    if slash and (first == LOCAL or first != first.lower() or any(c in first for c in ".:[")):
        registry, rest = first, after
    rest, colon, tag = rest.partition(":")
    if colon and not TAG.match(tag):
        raise _bad(text, f"{tag!r} is not a tag")
    return registry, rest, tag, digest


def _checked(text: str, registry: str, repository: str, tag: str, digest: str) -> Reference:
    if not REGISTRY.match(registry):
        raise _bad(text, f"{registry!r} is not a registry's host name")
    host, _, port = registry.rpartition(":")
    if host and port.isdecimal() and not 0 < int(port[:6]) < 65536:
        raise _bad(text, f"{port} is not a port")
    for component in repository.split("/"):
        if not REPOSITORY.match(component):
            if component.lower() != component and REPOSITORY.match(component.lower()):
                raise _bad(text, "a repository's name must be lower case")
            raise _bad(text, f"{component!r} cannot be part of a repository's name")
    if len(registry) + 1 + len(repository) > MAX_NAME:
        raise _bad(text, f"it is longer than {MAX_NAME} characters")
    return Reference(registry, repository, tag or ("" if digest else LATEST), digest)


def _bad(text: str, why: str) -> UserError:
    shown = text if len(text) <= 100 else f"{text[:100]}..."
    return UserError(f"{shown!r} is not an image's name: {why}")
