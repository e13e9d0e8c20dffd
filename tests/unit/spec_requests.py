"""Requests for a config.json, shared by the tests of the spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tiffin.options import ContainerOptions, Device, Mount, Resources, Ulimit
from tiffin.spec import build, request, seccomp_builtin
from tiffin.spec.capabilities import KNOWN
from tiffin.spec.facts import HostFacts
from tiffin.spec.users import User

ROOT = User(0, 0, (), "/root", "root")
SOMEBODY = User(1000, 1000, (1000, 44), "/home/ann", "ann")
CONFIG = {"Cmd": ["sh"], "Env": ["PATH=/bin", "FROM=image"]}


def facts(**changed: Any) -> HostFacts:
    """A machine like many: root, cgroup v1, a hard limit of 4096 open files."""
    told: dict[str, Any] = {
        "cgroup_v2": False,
        "hard_limits": {"nofile": 4096, "nproc": -1},
        "capabilities": tuple(sorted(KNOWN)),
        "may_raise_limits": False,
        "cpus": 4,
        "machine": "x86_64",
        "kernel": "6.1.0",
        "hostname": "host",
        "seccomp_profile": seccomp_builtin.PROFILE,
        "seccomp_source": "built in",
        "rootless": False,
    }
    return HostFacts(**{**told, **changed})


def spec(
    options: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    **changed: Any,
) -> request.Spec:
    """build() with everything that a test does not care about filled in."""
    told: dict[str, Any] = {
        "id": "ab" * 32,
        "name": "box",
        "image_config": CONFIG if config is None else config,
        "image_labels": {},
        "options": ContainerOptions(image="img", **(options or {})),
        "facts": facts(),
        "rootfs": "/layers/merged",
        "user": ROOT,
        "cgroup": "/tiffin-abab",
    }
    return build.build(request.SpecRequest(**{**told, **changed}))


def document(*args: Any, **changed: Any) -> dict[str, Any]:
    return spec(*args, **changed).document


def mount_at(document: Mapping[str, Any], place: str) -> dict[str, Any]:
    (found,) = [m for m in document["mounts"] if m["destination"] == place]
    assert isinstance(found, dict)
    return found


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
filled = words.filter(bool)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
pairs = st.lists(st.tuples(names, words), max_size=4).map(tuple)
places = st.from_regex(r"(/[a-z]{1,4}){1,4}", fullmatch=True)
binds = st.builds(
    Mount,
    type=st.just("bind"),
    source=st.just("/src"),
    target=places,
    options=st.sampled_from([(), ("ro",), ("z", "rw"), ("noexec", "rshared"), ("bind", "nosuid")]),
)
tmpfs = st.builds(
    Mount,
    type=st.just("tmpfs"),
    target=places,
    options=st.sampled_from([(), ("size=1m",), ("ro", "noexec"), ("notmpcopyup",)]),
)
caps = st.lists(st.sampled_from(KNOWN), max_size=3, unique=True)

options = st.fixed_dictionaries(
    {},
    optional={
        "command": st.lists(filled, min_size=1, max_size=3).map(tuple),
        "entrypoint": st.lists(filled, min_size=1, max_size=2).map(tuple),
        "env": pairs,
        "annotations": pairs,
        "workdir": words.map(lambda text: "/" + text),
        "hostname": st.from_regex(r"[a-z]{1,9}", fullmatch=True),
        "tty": st.booleans(),
        "privileged": st.booleans(),
        "read_only": st.booleans(),
        "init": st.booleans(),
        "mounts": st.lists(st.one_of(binds, tmpfs), max_size=4, unique_by=lambda m: m.target).map(
            tuple
        ),
        "network": st.sampled_from(["none", "host", "bridge", "lunch"]),
        "cap_add": caps.map(tuple),
        "pid": st.sampled_from(["host", "private"]),
        "ipc": st.sampled_from(["host", "private"]),
        "cgroupns": st.sampled_from(["host", "private"]),
        "shm_size": st.integers(1, 2**40),
        "stop_signal": st.just("SIGUSR1"),
        "security_opt": st.lists(
            st.sampled_from(
                ["no-new-privileges", "seccomp=unconfined", "mask=/x:/y", "unmask=/proc/*"]
            ),
            max_size=2,
        ).map(tuple),
        "ulimits": st.just((Ulimit("nofile", 10, 20), Ulimit("core", -1, -1))),
        "resources": st.builds(
            Resources,
            memory=st.sampled_from([0, 1 << 26]),
            cpus=st.sampled_from([0.0, 0.5, 4.0]),
            cpu_shares=st.integers(0, 1024),
            cpuset_cpus=st.sampled_from(["", "0-1,3"]),
            pids_limit=st.sampled_from([-1, 0, 7]),
        ),
        "sysctls": st.just((("net.core.somaxconn", "12"),)),
        "devices": st.just((Device("/dev/fuse"),)),
    },
).filter(lambda o: not ("sysctls" in o and o.get("network") == "host"))
"""Options of `create` that make sense, as keyword arguments of ContainerOptions."""

devices = st.sampled_from(
    [(), (request.HostDevice("/dev/fuse", "c", 10, 229, 0o20666, flag="--device /dev/fuse"),)]
)

configs = st.fixed_dictionaries(
    {"Cmd": st.lists(filled, min_size=1, max_size=3)},
    optional={
        "Env": st.lists(st.tuples(names, words).map("=".join), max_size=4),
        "Entrypoint": st.lists(filled, min_size=1, max_size=2),
        "WorkingDir": words,
        "StopSignal": st.just("SIGINT"),
        "Labels": st.just({"run.oci.handler": "wasm"}),
    },
)
