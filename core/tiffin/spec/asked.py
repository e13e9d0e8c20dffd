"""What the options ask for, and what of it is wrong whatever the container looks like."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ..errors import UserError
from ..options import ContainerOptions
from . import capabilities, idmaps, init_system, mounts


def command(options: ContainerOptions, image_config: Mapping[str, Any]) -> tuple[str, ...]:
    """What will run. --entrypoint clears the image's CMD (docker-run(1)). Error: UserError."""
    entrypoint, arguments, _, _ = resolve(options, image_config)
    return (*entrypoint, *arguments)


def runs_systemd(options: ContainerOptions, image_config: Mapping[str, Any]) -> bool:
    """Whether it is to be made ready for systemd."""
    return init_system.runs(options.systemd, command(options, image_config))


def resolve(
    options: ContainerOptions, image_config: Mapping[str, Any]
) -> tuple[list[str], list[str], str, str]:
    entrypoint = list(image_config.get("Entrypoint") or ())
    arguments = list(image_config.get("Cmd") or ())
    entry_source = args_source = "image"
    if options.entrypoint is not None:
        entrypoint, entry_source = list(options.entrypoint), "user"
        arguments, args_source = [], "user"
    if options.command:
        arguments, args_source = list(options.command), "user"
    if not entrypoint and not arguments:
        raise UserError(
            "no command given: image has neither ENTRYPOINT nor CMD",
            hint=f"name one after {options.image}",
        )
    if not (entrypoint + arguments)[0]:
        raise UserError("the command is an empty string")
    if any("\0" in word for word in entrypoint + arguments):
        raise UserError("the command contains a NUL byte")
    return entrypoint, arguments, entry_source, args_source


def check(
    options: ContainerOptions, image_config: Mapping[str, Any], others: Collection[str] = ()
) -> None:
    """Everything of the options that is wrong whatever the container looks like: told by `create`,
    before anything is made. `others`: what `--security-opt` takes besides, for label providers.
    Error: UserError."""
    command(options, image_config)
    for name in options.cap_add:
        capabilities.full_name(name, "--cap-add")
    for name in options.cap_drop:
        capabilities.full_name(name, "--cap-drop")
    mounts.user_mounts(options.mounts)
    for rule in options.device_rules:
        device_rule(rule)
    for name, values in security(options).items():
        if name not in SECURITY and name not in others:
            raise UserError(
                f"--security-opt {f'{name}={values[0]}'!r} is not known",
                hint="seccomp=, no-new-privileges, label=, apparmor=, mask=, unmask=",
            )
    if options.hostname and (len(options.hostname) > 64 or not options.hostname.isprintable()):
        raise UserError(f"--hostname {options.hostname!r} is not a host name")
    if options.workdir and not options.workdir.startswith("/"):
        raise UserError(f"--workdir {options.workdir!r} is not an absolute path")
    for name, _ in options.env:
        if not name or "=" in name:
            raise UserError(f"--env {name!r} is not a variable name")
    for flag, text in _texts(options):
        if "\0" in text:
            raise UserError(f"{flag} {text!r} contains a NUL byte")
        if not text.isascii() and _undecodable(text):
            raise UserError(f"{flag} {text!r} is not UTF-8", hint="config.json can hold no other")
    if options.hostname and options.uts == "host":
        raise UserError("--hostname does not go with --uts host: it would rename this machine")
    if options.hostname and ":" in options.uts:
        raise UserError(f"--hostname does not go with --uts {options.uts}: the name is another's")
    sysctls(options)
    if options.userns or options.uid_maps or options.gid_maps:
        idmaps.mode(options)
    for flag, value, allowed in (
        ("--pid", _mode(options.pid), ("", "host", "private", "container:ID", "ns:PATH")),
        ("--ipc", options.ipc, ("", "host", "private", "shareable", "none")),
        ("--uts", _mode(options.uts), ("", "host", "private", "container:ID", "ns:PATH")),
        ("--cgroupns", options.cgroupns, ("", "host", "private")),
    ):
        if value not in allowed:
            raise UserError(f"{flag} {value!r}", hint=f"one of {', '.join(allowed[1:])}")


def _mode(text: str) -> str:
    """A word that names another's namespace, as it is shown in a list of them."""
    word, colon, rest = text.partition(":")
    if colon and rest and word in ("container", "ns"):
        return "container:ID" if word == "container" else "ns:PATH"
    return text


def _texts(options: ContainerOptions) -> Iterator[tuple[str, str]]:
    """(flag, text) of all that the user may write freely and that goes into config.json."""
    yield from (("the command's", word) for word in (*(options.entrypoint or ()), *options.command))
    for flag, pairs in (
        ("--env", options.env),
        ("--annotation", options.annotations),
        ("--sysctl", options.sysctls),
    ):
        yield from ((flag, f"{name}={value}") for name, value in pairs)
    yield from (("--security-opt", text) for text in options.security_opt)
    yield from (("-v", text) for mount in options.mounts for text in (mount.source, mount.target))
    yield from (("-v", text) for mount in options.mounts for text in mount.options)
    yield from (("--device", device.target or device.source) for device in options.devices)
    yield ("--workdir", options.workdir)
    yield ("--hostname", options.hostname)


def _undecodable(text: str) -> bool:
    """True for bytes that Python could only keep as surrogates (PEP 383)."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


IPC_SYSCTLS = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax "
    "kernel.shmmni kernel.shm_rmid_forced".split()
)
"""What ipc_namespaces(7) has for each namespace; fs.mqueue.* as well."""


def sysctls(options: ContainerOptions) -> None:
    """Only kernel parameters of a namespace that the container has for itself may be set: the
    others are the host's. Error: UserError."""
    for name, _ in options.sysctls:
        if name.startswith("net."):
            flag, shared = "--network", options.network == "host"
        elif name in IPC_SYSCTLS or name.startswith("fs.mqueue."):
            flag, shared = "--ipc", options.ipc == "host"
        else:
            raise UserError(
                f"--sysctl {name}: it belongs to the host, not to a container",
                hint="net.*, fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm* can be set",
            )
        if shared:
            raise UserError(f"--sysctl {name}: with {flag} host it would change this machine")


SECURITY = frozenset("seccomp no-new-privileges label apparmor mask unmask proc-opts".split())
"""What `--security-opt` takes by itself."""


def security(options: ContainerOptions) -> dict[str, list[str]]:
    """`--security-opt` as {name: values}. Error: UserError for what is none of its forms."""
    found: dict[str, list[str]] = {}
    for option in options.security_opt:
        name, separator, value = option.partition("=")
        if not separator:
            name, separator, value = option.partition(":")
        if name != "no-new-privileges" and not value:
            raise UserError(f"--security-opt {name} needs a value")
        if name == "mask" and not all(path.startswith("/") for path in value.split(":")):
            raise UserError(f"--security-opt {option}: not a list of absolute paths")
        found.setdefault(name, []).append(value)
    return found


def device_rule(text: str) -> dict[str, Any]:
    """`TYPE MAJOR:MINOR ACCESS`, as cgroup v1 has it in devices.allow. Error: UserError."""
    parts = text.split()
    numbers = parts[1].split(":") if len(parts) == 3 else []
    good = (
        len(numbers) == 2
        and parts[0] in ("a", "b", "c")
        and all(n == "*" or (n.isascii() and n.isdecimal() and len(n) < 8) for n in numbers)
        and not set(parts[2]) - set("rwm")
    )
    if not good:
        raise UserError(
            f"--device-cgroup-rule {text!r} is not of the form TYPE MAJOR:MINOR ACCESS",
            hint="for example 'c 10:200 rwm'",
        )
    rule: dict[str, Any] = {"allow": True, "type": parts[0], "access": parts[2]}
    for name, number in zip(("major", "minor"), numbers, strict=True):
        if number != "*":
            rule[name] = int(number)
    return rule


REFERENCE = re.compile(r"\$(?:\{([^}]*)\}|(\w+))")


def expanded(text: str, known: Mapping[str, str]) -> str:
    """`$NAME` and `${NAME}` replaced by what is known of them, or by nothing."""
    return REFERENCE.sub(lambda found: known.get(found[1] or found[2] or "", ""), text)
