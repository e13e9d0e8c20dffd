"""Where an ordinary user's run state is: a directory that only they can write to, and that a reboot
takes away. Standard library only."""

from __future__ import annotations

import os
import stat

from ..errors import UserError


def runtime_dir(uid: int) -> str:
    """$XDG_RUNTIME_DIR, else /run/user/UID, else one in /tmp that is named after this boot, so that
    what another boot left is never taken for alive. A directory that is not the user's own (of
    somebody who became them by `su`) is passed over. Nothing is made. Error: UserError for one in
    /tmp that is not theirs alone."""
    for path in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"):
        if path.startswith("/") and _why_not(path) == "":
            return path
    path = fallback(uid)
    if (why := _why_not(path, strict=True)) and os.path.lexists(path):
        raise UserError(
            f"{path} {why}: no directory for run state",
            hint="remove it, or set XDG_RUNTIME_DIR to a directory of yours with mode 700",
        )
    return path


def fallback(uid: int) -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"/tmp/tiffin-{uid}-{file.read(8)}"  # its owner and mode are checked


def _why_not(path: str, *, strict: bool = False, link: bool = True) -> str:
    """What is wrong with it; empty when it is a directory of the user's and, with `strict`, no link
    and for nobody else; without `link`, no link."""
    try:
        status = os.lstat(path) if strict or not link else os.stat(path)
    except OSError as error:
        return f"cannot be used ({error.strerror})"
    if stat.S_ISLNK(status.st_mode):
        return "is a link"
    if not stat.S_ISDIR(status.st_mode):
        return "is no directory"
    if status.st_uid != os.geteuid():  # within the namespace as well
        return f"belongs to user {status.st_uid}"
    others = 0o077 if strict else 0o022
    return "is open to others" if status.st_mode & others else ""


def prepare(uid: int) -> str:
    """`runtime_dir`/tiffin, made when it is not there. Errors: UserError."""
    top = runtime_dir(uid)
    path = f"{top}/tiffin"
    try:
        for directory in (top, path):
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                continue
    except OSError as error:
        raise UserError(
            f"{error.filename}: {error.strerror}: no directory for run state",
            hint="set XDG_RUNTIME_DIR to a directory of yours with mode 700",
        ) from None
    if why := _why_not(path, strict=True):
        raise UserError(f"{path} {why}", hint=f"chmod 700 {path}, or remove it")
    return path


def open_to_all(path: str) -> None:
    """Make a directory in /tmp through which everybody may pass, and that only its owner changes.
    Error: UserError for one that is something else."""
    try:
        os.mkdir(path, 0o711)
    except FileExistsError:
        if why := _why_not(path, link=False):
            raise UserError(f"{path} {why}", hint="remove it") from None
