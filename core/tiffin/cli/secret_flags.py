"""`--secret` of `create` and `run`."""

from __future__ import annotations

from ..errors import UserError
from ..options import Secret

HINT = "NAME[,type=mount|env][,target=...][,uid=][,gid=][,mode=0400]"


def parse(text: str) -> Secret:
    """Error: UserError."""
    name, *words = text.split(",")
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in ("type", "target", "uid", "gid", "mode") or not equals or not value:
            raise UserError(f"--secret {text!r}: {word!r} is no option", hint=HINT)
        given[key] = value
    if not name or "=" in name:
        raise UserError(f"--secret {text!r} names no secret", hint=HINT)
    kind = given.get("type", "mount")
    if kind not in ("mount", "env"):
        raise UserError(f"--secret {text!r}: type {kind!r} is neither mount nor env")
    target = given.get("target", "")
    if kind == "env":
        for key in ("uid", "gid", "mode"):
            if key in given:
                raise UserError(f"--secret {text!r}: {key} is for type=mount only")
        if "=" in target or "\0" in target:
            raise UserError(f"--secret {text!r}: {target!r} is no name of a variable")
    elif not target.startswith("/") and ("/" in target or target in (".", "..")):
        raise UserError(f"--secret {text!r}: {target!r} is no name and no absolute path")
    elif target.endswith("/") or "\0" in target or "/../" in f"{target}/":
        raise UserError(f"--secret {text!r}: {target!r} is no path of a file")
    return Secret(
        name=name,
        type=kind,
        target=target,
        uid=_number(text, given.get("uid", "0"), 10),
        gid=_number(text, given.get("gid", "0"), 10),
        mode=_number(text, given.get("mode", "444"), 8),
    )


def _number(text: str, digits: str, base: int) -> int:
    try:
        number = int(digits, base) if digits.isascii() and digits.isdecimal() else -1
    except ValueError:
        number = -1
    if not 0 <= number <= (0o7777 if base == 8 else 2**32 - 2):
        raise UserError(f"--secret {text!r}: {digits!r} is not a number that fits")
    return number
