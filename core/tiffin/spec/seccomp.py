"""Seccomp: from the profile format that podman and docker share to the runtime specification's.

The profile (containers-common, seccomp.json(5)) has conditions on capabilities, processor and
kernel; the specification (config-linux.md#seccomp) has none, so they are resolved here.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from ..errors import UserError

PROFILE_PATHS = ("/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json")
"""Where the distribution's container packages put theirs (containers.conf(5), seccomp_profile)."""

ARCHITECTURES = {
    "x86_64": ("amd64", ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")),
    "aarch64": ("arm64", ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")),
    "armv7l": ("arm", ("SCMP_ARCH_ARM",)),
    "i686": ("386", ("SCMP_ARCH_X86",)),
    "ppc64le": ("ppc64le", ("SCMP_ARCH_PPC64LE",)),
    "riscv64": ("riscv64", ("SCMP_ARCH_RISCV64",)),
    "s390x": ("s390x", ("SCMP_ARCH_S390X", "SCMP_ARCH_S390")),
}
"""uname's machine -> (Go's name, libseccomp's names, the native one first)."""


def resolve(
    profile: Mapping[str, Any], capabilities: Collection[str], machine: str, kernel: str
) -> dict[str, Any]:
    """The `linux.seccomp` object for a container with these (bounding) capabilities.

    Nothing in it is shared with the profile: plugins may change it. Error: UserError for a profile
    that is not one.
    """
    go_name, native = ARCHITECTURES.get(machine, (machine, ()))
    try:
        result: dict[str, Any] = {"defaultAction": profile["defaultAction"]}
        if profile.get("defaultErrnoRet") is not None:
            result["defaultErrnoRet"] = profile["defaultErrnoRet"]
        architectures = list(profile.get("architectures") or ())
        for mapped in profile.get("archMap") or ():
            if native and mapped["architecture"] == native[0]:
                architectures = [mapped["architecture"], *(mapped.get("subArchitectures") or ())]
        if architectures:
            result["architectures"] = architectures
        for name in ("flags", "listenerPath", "listenerMetadata"):
            if profile.get(name):
                kept = profile[name]
                result[name] = list(kept) if isinstance(kept, list) else kept
        result["syscalls"] = [
            _rule(rule)
            for rule in profile.get("syscalls") or ()
            if _applies(rule, capabilities, go_name, kernel)
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"not a seccomp profile: {error!r}") from None
    return result


def _applies(
    rule: Mapping[str, Any], capabilities: Collection[str], arch: str, kernel: str
) -> bool:
    includes = rule.get("includes") or {}
    excludes = rule.get("excludes") or {}
    if any(cap not in capabilities for cap in includes.get("caps") or ()):
        return False
    if any(cap in capabilities for cap in excludes.get("caps") or ()):
        return False
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if arch in (excludes.get("arches") or ()):
        return False
    least = includes.get("minKernel")
    if least and _version(kernel) < _version(least):
        return False
    most = excludes.get("minKernel")
    return not (most and _version(kernel) >= _version(most))


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = ""
    for letter in rest:
        if not letter.isdecimal():
            break
        minor += letter
    return int(major or 0), int(minor or 0)


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    names = list(rule.get("names") or ([rule["name"]] if rule.get("name") else ()))
    kept: dict[str, Any] = {"names": names, "action": rule["action"]}
    if rule.get("errnoRet") is not None:
        kept["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        kept["args"] = [dict(argument) for argument in rule["args"]]
    return kept


def load(path: str) -> dict[str, Any]:
    """A profile from a file. Error: UserError that names it."""
    try:
        with open(path, "rb") as file:
            profile = msgspec.json.decode(file.read())
    except OSError as error:
        raise UserError(f"--security-opt seccomp={path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--security-opt seccomp={path}: not JSON: {error}") from None
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        raise UserError(f"--security-opt seccomp={path}: not a seccomp profile")
    return profile


def default_profile() -> tuple[dict[str, Any], str]:
    """(profile, where it came from): the distribution's, else our own."""
    for path in PROFILE_PATHS:
        if os.path.exists(path):
            return load(path), path
    from .seccomp_builtin import PROFILE  # only where no container package is installed

    return PROFILE, "built in"
