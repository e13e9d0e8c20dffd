"""`system quadlet`: the generator that makes units of .container files, and where it is."""

from __future__ import annotations

import os

from ..errors import UserError
from .flags import Call, Command, Flag

PREFIX = "/etc"


def _quadlet(call: Call) -> int:
    asked = [name for name in ("install", "uninstall", "dryrun") if call.options[name]]
    if len(asked) > 1:
        raise UserError(f"--{asked[0]} and --{asked[1]} exclude each other")
    prefix = call.options["prefix"].rstrip("/")
    if not prefix.startswith("/"):
        raise UserError(f"--prefix {call.options['prefix']} is not an absolute path")
    from ..quadlet import generator, installing

    user = bool(call.options["user"]) or os.geteuid() != 0
    if call.options["dryrun"]:
        words = ["--dryrun", *(["--user"] if user else [])]
        return generator.run(words, dict(os.environ), os.getuid())
    if asked:
        if user and call.options["user"]:
            raise UserError("--user goes with --dryrun: one generator is there for all users")
        change = installing.install if call.options["install"] else installing.uninstall
        for path in change(prefix):
            print(path)
        return 0
    for kind in installing.PLACES:
        path = installing.path(prefix, kind)
        print(f"{path}: {'installed' if os.access(path, os.X_OK) else 'not installed'}")
    return 0


QUADLET = Command(
    name="system quadlet",
    usage="",
    summary="Make systemd units of .container, .volume, .network, .pod, .image and .build files: "
    "install the generator, or show what it makes; alone, say whether it is installed",
    flags=(
        Flag("install", help="Install it, for root's systemd and for the users'"),
        Flag("uninstall", help="Remove it again"),
        Flag("dryrun", help="Print the units that would be made, and what is wrong with files"),
        Flag("user", help="With --dryrun: those of the user"),
        Flag("prefix", "", "str", "DIR", "Above systemd/system-generators", PREFIX),
    ),
    arguments=(0, 0),
    examples=(
        "tiffin system quadlet --install && systemctl daemon-reload",
        "tiffin system quadlet --dryrun",
        "QUADLET_UNIT_DIRS=$PWD tiffin system quadlet --dryrun",
    ),
    run=_quadlet,
)
