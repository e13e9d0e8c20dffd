"""`plugin new`: a package with a plugin that works, and tests that it passes."""

from __future__ import annotations

import os
import re
import sys

from ..errors import Conflict, UserError
from .flags import Call, Command, Flag

FOLDER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "scaffold")
KINDS = ("storage", "runtime", "network", "label", "consumer", "spec")
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")


def files(kind: str, name: str) -> dict[str, str]:
    """Path in the package to text, of a plugin of that kind and name."""
    plain = name.replace("-", "_")
    module = f"tiffin_{kind}_{plain}"
    words = {
        "__KIND__": kind,
        "__NAME__": name,
        "__MODULE__": module,
        "__CLASS__": "".join(part.capitalize() for part in name.split("-")),
        "__UPPER__": plain.upper(),
    }
    found = {}
    for folder in ("common", kind):
        for file_name in sorted(os.listdir(f"{FOLDER}/{folder}")):
            with open(f"{FOLDER}/{folder}/{file_name}", encoding="utf-8") as file:
                text = file.read()
            for word, value in words.items():
                text = text.replace(word, value)
            target = file_name.removesuffix(".in")
            if target == "test_plugin.py":
                target = f"tests/test_{plain}.py"
            elif target.endswith(".py"):
                target = f"{module}/{target}"
            found[target] = text
    found[f"{module}/py.typed"] = ""
    return found


def _run(call: Call) -> int:
    kind, name = call.arguments
    if kind not in KINDS:
        raise UserError(f"{kind!r} is no kind that there is a package for", hint=", ".join(KINDS))
    if not NAME.match(name) or len(name) > 40:
        raise UserError(
            f"{name!r} cannot name a plugin",
            hint="small letters, digits and single `-`; at most 40",
        )
    target = call.options["directory"] or f"tiffin-{kind}-{name}"
    if os.path.lexists(target):
        raise Conflict(f"{target} exists", hint="remove it, or choose another --directory")
    for path, text in files(kind, name).items():
        full = os.path.join(target, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "x", encoding="utf-8") as file:
            file.write(text)
    sys.stdout.write(f"{target}\n")
    return 0


NEW = Command(
    "plugin new",
    f"{'|'.join(KINDS)} NAME",
    "Write a package with a plugin that works, and tests (the conformance kit of its kind) that it "
    "passes",
    (Flag("directory", "d", "str", "DIR", "Where to (default: tiffin-KIND-NAME)"),),
    (2, 2),
    ("tiffin plugin new storage shelf", "tiffin plugin new consumer audit --directory audit"),
    _run,
)
