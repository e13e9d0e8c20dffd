"""Lines that a container's /etc/passwd and /etc/group get besides the image's, so that its user has
a name: of the user that `--user NUMBER` makes up, and of users of the host (`--hostuser`).

podman-run(1), --passwd, --passwd-entry, --hostuser. The files of the image stay as they are: others
are mounted over them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import users

ENTRY = "$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh"
NAME = "container user"
PASSWD, GROUP = "/etc/passwd", "/etc/group"


def settle(
    given: str,
    passwd: str,
    group: str,
    *,
    group_add: Sequence[str] = (),
    host_users: Sequence[str] = (),
    entry: str = "",
    home: str = "/",
    add: bool = True,
) -> tuple[users.User, dict[str, str]]:
    """The user, and {place: text} of the files that must be others than the image's.

    An image without such a file keeps none. `given` as for `users.resolve`;
    `host_users` are lines of passwd(5); `entry` is the template of
    the new line; `home` the working directory. Error: UserError.
    """
    known = {account.name for account in users.parse_passwd(passwd)}
    lines = [line for line in host_users if line.partition(":")[0] not in known]
    whole = _with(passwd, lines)
    user = users.resolve(given, whole, group, group_add)
    if not add:
        return user, {}
    files = {}
    if not user.name and user.uid:
        words = {"USERNAME": str(user.uid), "UID": str(user.uid), "GID": str(user.gid),
                 "NAME": NAME, "HOME": home}  # fmt: skip
        text = re.sub(r"\$(\w+)", lambda found: words.get(found[1], found[0]), entry or ENTRY)
        lines.append(text)
        user = users.User(user.uid, user.gid, user.additional_gids, home, "")
    if lines and passwd:
        files[PASSWD] = _with(passwd, lines)
    if user.gid and group and all(one.gid != user.gid for one in users.parse_group(group)):
        files[GROUP] = _with(group, [f"{user.gid}:x:{user.gid}:{user.uid}"])
    return user, files


def _with(text: str, lines: Sequence[str]) -> str:
    if text and not text.endswith("\n") and lines:
        text += "\n"
    return text + "".join(f"{line}\n" for line in lines)
