"""`-v`, `--mount` and `--tmpfs`: what is mounted into a container. Reads the file system (a bind
mount's source must exist), changes nothing."""

from __future__ import annotations

import os

from ..errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Mount

BIND_OPTIONS = frozenset(
    "ro rw z Z O U exec noexec suid nosuid dev nodev bind rbind private rprivate shared rshared "
    "slave rslave unbindable runbindable idmap copy nocopy relatime norelatime noatime upperdir "
    "workdir".split()
)
TMPFS_OPTIONS = frozenset(
    "ro rw exec noexec suid nosuid dev nodev size mode uid gid nr_inodes nr_blocks huge private "
    "rprivate shared rshared slave rslave tmpcopyup notmpcopyup noswap relatime norelatime "
    "noatime U".split()
)
IMAGE_OPTIONS = frozenset(("ro", "rw"))
DEVPTS_OPTIONS = frozenset("ro rw uid gid mode max".split())
OPTIONS = {
    "bind": BIND_OPTIONS,
    "volume": BIND_OPTIONS,
    "tmpfs": TMPFS_OPTIONS,
    "image": IMAGE_OPTIONS,
    "devpts": DEVPTS_OPTIONS,
}
VALUED = frozenset("size mode uid gid nr_inodes nr_blocks huge max upperdir workdir".split())
IGNORED = frozenset(("consistency", "volume-driver", "volume-label", "volume-opt"))
"""Docker's: of other platforms, or of volumes that are made by themselves here."""


def parse_volume(text: str) -> Mount:
    """`-v SRC:DST[:OPTIONS]`. Error: UserError."""
    from ..options import Mount

    parts = text.split(":")
    if len(parts) == 1:
        return Mount("volume", _target("--volume", text))
    if len(parts) > 3 or not parts[0] or not parts[1]:
        raise UserError(f"--volume {text!r} is not of the form [SRC:]DST[:OPTIONS]")
    options = tuple(filter(None, parts[2].split(","))) if len(parts) == 3 else ()
    _check_options("--volume", text, options, BIND_OPTIONS)
    if not parts[0].startswith(("/", ".")):
        return Mount("volume", _target("--volume", parts[1]), _name("-v", parts[0]), options)
    return Mount("bind", _target("--volume", parts[1]), _source("-v", parts[0]), options)


def parse_tmpfs(text: str) -> Mount:
    """`--tmpfs DIR[:OPTIONS]`. Error: UserError."""
    from ..options import Mount

    target, _, rest = text.partition(":")
    options = tuple(filter(None, rest.split(",")))
    _check_options("--tmpfs", text, options, TMPFS_OPTIONS)
    return Mount("tmpfs", _target("--tmpfs", target), "", options)


def parse_mount(text: str) -> Mount:
    """`--mount type=bind,src=/a,dst=/b,ro` or `type=tmpfs,dst=/b,tmpfs-size=1m`.

    Error: UserError.
    """
    from ..options import Mount

    kind, source, target = "", "", ""
    options: list[str] = []
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if key == "type":
            kind = value
        elif key in ("src", "source"):
            source = value
        elif key in ("dst", "destination", "target"):
            target = value
        elif key in ("ro", "readonly", "rw", "readwrite"):
            read_only = (key not in ("rw", "readwrite")) == _truth(text, key, value, equals)
            options.append("ro" if read_only else "rw")
        elif key in ("U", "chown"):
            options += ["U"] if _truth(text, key, value, equals) else []
        elif key in ("notmpcopyup", "volume-nocopy"):
            word = {"volume-nocopy": "nocopy"}.get(key, key)
            options += [word] if _truth(text, key, value, equals) else []
        elif key in IGNORED:
            continue
        elif key in ("bind-propagation", "propagation"):
            options.append(value)
        elif key == "bind-nonrecursive":
            options += ["bind"] if _truth(text, key, value, equals) else []
        elif key == "relabel" and value in ("shared", "private"):
            options.append("z" if value == "shared" else "Z")
        elif key in ("tmpfs-size", "tmpfs-mode"):
            options.append(f"{key.removeprefix('tmpfs-')}={value}")
        else:
            options.append(part)
    kind = kind or "volume"
    if kind not in OPTIONS:
        raise UserError(f"--mount {text!r}: type {kind!r} is not known", hint=", ".join(OPTIONS))
    if not target:
        raise UserError(f"--mount {text!r} has no destination", hint="add dst=/PATH")
    _check_options("--mount", text, options, OPTIONS[kind])
    if kind in ("tmpfs", "devpts"):
        if source:
            raise UserError(f"--mount {text!r}: a {kind} has no source")
        if kind == "devpts":
            options = [*DEVPTS, *options]
        return Mount(kind, _target("--mount", target), "", tuple(options))
    if kind == "image":
        if not source:
            raise UserError(f"--mount {text!r} has no source", hint="add src=IMAGE")
        return Mount("image", _target("--mount", target), source, tuple(options))
    if kind == "volume":
        name = _name("--mount", source) if source else ""
        return Mount("volume", _target("--mount", target), name, tuple(options))
    if not source:
        raise UserError(f"--mount {text!r} has no source", hint="add src=/PATH")
    return Mount("bind", _target("--mount", target), _source("--mount", source), tuple(options))


DEVPTS = ("nosuid", "noexec", "newinstance", "ptmxmode=0666")


def _truth(text: str, key: str, value: str, given: str) -> bool:
    """Of a key that may stand alone."""
    if given and value not in ("true", "false"):
        raise UserError(f"--mount {text!r}: {key} is true or false, not {value!r}")
    return value != "false"


def _name(flag: str, name: str) -> str:
    from .. import ids

    try:
        return ids.check_name(name, "volume")
    except UserError as error:
        hint = "a path of the host begins with / or ."
        raise UserError(f"{flag}: {error.what}", hint=hint) from None


def _target(flag: str, target: str) -> str:
    if not target.startswith("/") or "\0" in target:
        raise UserError(f"{flag}: {target!r} is not an absolute path in the container")
    if os.path.normpath(target).lstrip("/") == "":
        raise UserError(f"{flag}: nothing can be mounted over the container's root /")
    return target


def _source(flag: str, source: str) -> str:
    path = os.path.abspath(source) if "\0" not in source else ""
    if not path or not os.path.exists(path):
        raise UserError(f"{flag}: no such file or directory: {path or repr(source)}")
    return path


def _check_options(
    flag: str, text: str, options: tuple[str, ...] | list[str], known: frozenset[str]
) -> None:
    for option in options:
        name, equals, value = option.partition("=")
        takes_value = name in VALUED
        if name not in known or "\0" in option or takes_value != bool(equals and value):
            raise UserError(f"{flag} {text!r}: option {option!r} is not known")
