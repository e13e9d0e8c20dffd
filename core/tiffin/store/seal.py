"""Checkpoints: the state of the log, signed with Ed25519 (RFC 8032), to be kept elsewhere.

A checkpoint is one line of JSON. Signed are the words `tiffin checkpoint 1`, a newline, and the
line's fields without `signature`, as JSON with sorted keys and no spaces. `cryptography` is
optional, and imported here and nowhere else.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from ..errors import Corrupt, NotFound, TiffinError, UserError
from ..smallhash import sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

CONTEXT = b"tiffin checkpoint 1\n"
MAKE_KEY = "openssl genpkey -algorithm ed25519 -out FILE makes one"


def _library() -> Any:
    """`cryptography`'s serialization and ed25519 modules. Error: TiffinError that says what to
    install."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise TiffinError(
            "checkpoints need the Python package cryptography",
            hint="pip install 'tiffin[seal]', or apt install python3-cryptography",
        ) from None
    return serialization, ed25519


def _file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise NotFound(f"no such file: {path}") from None


def private_key(path: str) -> Ed25519PrivateKey:
    """From a PEM file (PKCS #8). Errors: NotFound, UserError, TiffinError."""
    serialization, ed25519 = _library()
    data = _file(path)
    try:
        key: Any = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError):
        raise UserError(f"{path} is no unencrypted private key in PEM", hint=MAKE_KEY) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UserError(f"{path} is no Ed25519 key", hint=MAKE_KEY)
    private: Ed25519PrivateKey = key
    return private


def public_key(path: str) -> Ed25519PublicKey:
    """From a PEM file: a public key, or the private one that it belongs to."""
    serialization, ed25519 = _library()
    data = _file(path)
    if b"PRIVATE KEY" in data:
        return private_key(path).public_key()
    try:
        key: Any = serialization.load_pem_public_key(data)
    except ValueError:
        raise UserError(
            f"{path} is no public key in PEM", hint="openssl pkey -in KEY -pubout prints it"
        ) from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise UserError(f"{path} is no Ed25519 key")
    public: Ed25519PublicKey = key
    return public


def raw(key: Ed25519PublicKey) -> str:
    """The 32 bytes of a public key, in base64."""
    serialization, _ = _library()
    data = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(data).decode()


def fingerprint(key: str) -> str:
    """A short name of a key, to be compared by people."""
    return f"SHA256:{sha256(key.encode()).hexdigest()[:32]}"


def _signed(fields: dict[str, Any]) -> bytes:
    plain = {name: value for name, value in fields.items() if name != "signature"}
    return CONTEXT + json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def make(key: Ed25519PrivateKey, *, seq: int, hash_: str, time: str, root: str) -> str:
    """The line (without its newline) that says: at this time the log ended with this event."""
    fields: dict[str, Any] = {
        "checkpoint": 1,
        "seq": seq,
        "hash": hash_,
        "time": time,
        "root": root,
        "key": raw(key.public_key()),
    }
    fields["signature"] = base64.b64encode(key.sign(_signed(fields))).decode()
    return json.dumps(fields, separators=(",", ":"))


def read(path: str) -> list[dict[str, Any]]:
    """The checkpoints in a file, oldest first; signatures are not checked yet.
    Errors: NotFound, Corrupt."""
    found = []
    for number, line in enumerate(_file(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if fields["checkpoint"] != 1 or not isinstance(fields["seq"], int):
                raise ValueError
            for name in ("hash", "time", "root", "key", "signature"):
                fields[name] = str(fields[name])
        except (ValueError, KeyError, TypeError):
            raise Corrupt(f"{path}: line {number} is no checkpoint") from None
        found.append(fields)
    if not found:
        raise Corrupt(f"{path} holds no checkpoint")
    return found


def genuine(fields: dict[str, Any], trusted: Ed25519PublicKey | None) -> bool:
    """Whether the signature is right; by the trusted key if there is one, else by the checkpoint's
    own, which then tells only that it is whole."""
    _, ed25519 = _library()
    from cryptography.exceptions import InvalidSignature

    try:
        key = trusted or ed25519.Ed25519PublicKey.from_public_bytes(
            base64.b64decode(fields["key"], validate=True)
        )
        key.verify(base64.b64decode(fields["signature"], validate=True), _signed(fields))
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True
