"""What a config.json depends on, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from ..hooks import IdMaps, Origin
from ..options import ContainerOptions
from .facts import HostFacts
from .users import User


class HostDevice(Struct, frozen=True):
    """A device node of the host, as it was found for --device or --privileged."""

    path: str
    """In the container."""
    type: str
    """`c` or `b`."""
    major: int
    minor: int
    mode: int
    uid: int = 0
    gid: int = 0
    permissions: str = "rwm"
    flag: str = ""
    source: str = ""
    """On the host; empty: the same path."""


class SpecRequest(Struct, frozen=True):
    """All that a config.json depends on."""

    id: str
    name: str
    image_config: Mapping[str, Any]
    """The `config` object of the image (image-spec, config.md)."""
    image_labels: Mapping[str, str]
    options: ContainerOptions
    facts: HostFacts
    rootfs: str
    user: User
    cgroup: str
    notify: str = ""
    """Where the container finds the socket of the service manager (sd_notify(3))."""
    netns: str = ""
    """Path of the network namespace to join."""
    userns: str = ""
    """Path of the user namespace to join; empty: the host's ids."""
    id_maps: IdMaps = IdMaps()
    joins_owner: bool = False
    """Network and user namespace are both of the same other container."""
    files: tuple[tuple[str, str], ...] = ()
    """(place in the container, file on the host) of hosts, resolv.conf, hostname."""
    devices: tuple[HostDevice, ...] = ()
    seccomp_profile: Mapping[str, Any] | None = None
    """From --security-opt seccomp=FILE, else the host's default is taken."""
    init_program: str = ""
    process_label: str = ""
    mount_label: str = ""
    apparmor_profile: str = ""
    joined: Mapping[str, str] = {}
    """{ipc, uts, pid: path} of the namespaces of a pod; `shm`: of the /dev/shm that it has."""


class Spec(Struct, frozen=True):
    document: dict[str, Any]
    origins: dict[str, Origin]
