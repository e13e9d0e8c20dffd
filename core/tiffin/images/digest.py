"""Digests: `sha256:HEX`, the only algorithm that a content store here holds."""

from __future__ import annotations

from ..errors import ImageError
from ..smallhash import sha256
from .reference import DIGEST

PREFIX = "sha256:"


def of(data: bytes) -> str:
    """The digest of these bytes."""
    return f"{PREFIX}{sha256(data).hexdigest()}"


def is_digest(text: str) -> bool:
    return DIGEST.match(text) is not None


def check(digest: object, what: str = "digest") -> str:
    """Return a well-formed digest; it is then safe as a file name. Error: ImageError."""
    if isinstance(digest, str):
        if DIGEST.match(digest):
            return digest
        if digest.startswith("sha512:"):
            raise ImageError(f"{what} is sha512, which is not supported", hint="sha256 is")
    raise ImageError(f"{what} {str(digest)[:100]!r} is not sha256: and 64 hex digits")


def chain_ids(diff_ids: tuple[str, ...]) -> tuple[str, ...]:
    """image-spec, config.md#layer-chainid: of each layer, lowest first, with all below it."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
