"""The key sequence that detaches from a container: parsing `--detach-keys`, and watching for it.

Pure. Syntax as docker and podman have it: keys separated by commas, each one character or
`ctrl-X` with X a letter or one of `@ [ \\ ] ^ _`; an empty text turns detaching off.
"""

from __future__ import annotations

from .errors import UserError

DEFAULT = "ctrl-p,ctrl-q"


def parse(text: str) -> bytes:
    """The bytes to look for. Error: UserError."""
    if not text:
        return b""
    keys = bytearray()
    for key in text.split(","):
        character = key[5:] if key.lower().startswith("ctrl-") else key
        if len(character) != 1 or not " " < character <= "~":
            raise UserError(
                f"detach key {key!r} is not known",
                hint="write single characters or ctrl-X, separated by commas: ctrl-p,ctrl-q",
            )
        if character is key:
            keys.append(ord(key))
        elif character.isalpha() or character in "@[\\]^_":
            keys.append(ord(character.upper()) & 0x1F)
        else:
            raise UserError(
                f"detach key {key!r} is not known", hint="ctrl- takes a letter or one of @[\\]^_"
            )
    return bytes(keys)


class Watcher:
    """Looks for the sequence in what is typed. Keys that may be the beginning of it are held back,
    and passed on when it breaks off."""

    __slots__ = ("_held", "keys")

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self._held = 0
        """How many bytes of `keys` were typed and not passed on."""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(bytes to pass on, whether the sequence is complete). What comes after it is dropped."""
        keys = self.keys
        if not keys:
            return data, False
        if not self._held and keys[0] not in data:
            return data, False
        out = bytearray()
        held = self._held
        for byte in data:
            if byte == keys[held]:
                held += 1
                if held == len(keys):
                    self._held = 0
                    return bytes(out), True
                continue
            pending = keys[:held] + bytes((byte,))
            # The longest end of what was typed that may still begin the sequence stays held back.
            keep = held
            while keep and pending[-keep:] != keys[:keep]:
                keep -= 1
            out += pending[: len(pending) - keep]
            held = keep
        self._held = held
        return bytes(out), False

    def flush(self) -> bytes:
        """What is still held back, when no more will be typed."""
        rest = self.keys[: self._held]
        self._held = 0
        return rest
