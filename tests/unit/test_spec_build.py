"""config.json: what the image says, what the user says, and what the engine adds."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from spec_requests import (
    CONFIG,
    SOMEBODY,
    configs,
    document,
    facts,
    mount_at,
    names,
    options,
    pairs,
    spec,
    words,
)

from tiffin.errors import UserError
from tiffin.options import ContainerOptions, Mount, Resources, Ulimit
from tiffin.spec import mounts, request
from tiffin.spec.asked import check
from tiffin.spec.origins import origin_of
from tiffin.spec.users import User


def source(made: request.Spec, pointer: str) -> str:
    origin = origin_of(made.origins, pointer)
    assert origin is not None
    return origin.source


# --- what runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "flag", "command", "runs"),
    [
        (None, ["a", "b"], None, (), ["a", "b"]),
        (["e"], ["a"], None, (), ["e", "a"]),
        (["e"], ["a"], None, ("x",), ["e", "x"]),
        (["e"], ["a"], ("f",), (), ["f"]),
        (["e"], ["a"], ("f",), ("x",), ["f", "x"]),
        (["e"], ["a"], (), ("x",), ["x"]),
    ],
)
def test_entrypoint_and_command(
    entrypoint: Any, cmd: Any, flag: Any, command: Any, runs: list[str]
) -> None:
    """--entrypoint clears the image's CMD (docker-run(1))."""
    asked = {"entrypoint": flag, "command": command}
    assert document(asked, {"Entrypoint": entrypoint, "Cmd": cmd})["process"]["args"] == runs


@pytest.mark.parametrize("config", [{}, {"Cmd": None, "Entrypoint": []}, {"Cmd": []}])
def test_without_a_command_it_says_so(config: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no command given: image has neither ENTRYPOINT nor CMD"):
        document(config=config)


def test_init_goes_before_the_command_and_lies_on_a_tmpfs() -> None:
    made = document({"init": True}, init_program="/usr/bin/catatonit")
    assert made["process"]["args"] == ["/dev/init", "--", "sh"]
    assert mount_at(made, "/dev/init")["source"] == "/usr/bin/catatonit"


def test_init_leaves_nothing_in_a_dev_that_the_user_brings() -> None:
    brought = (Mount("bind", "/dev/", "/dev"),)
    made = document({"init": True, "mounts": brought}, init_program="/usr/bin/catatonit")
    assert made["process"]["args"][0] == "/run/tiffin-init"
    assert not [m for m in made["mounts"] if m["destination"] == "/dev/init"]


@pytest.mark.parametrize(
    ("given_dir", "cwd"),
    [("/a/../../b/", "/b"), ("srv", "/srv"), ("../..", "/"), ("/./x//y", "/x/y"), ("", "/")],
)
def test_a_hostile_workdir_is_cleaned(given_dir: str, cwd: str) -> None:
    assert document(config={**CONFIG, "WorkingDir": given_dir})["process"]["cwd"] == cwd


# --- environment ----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(names, words, words, pairs)
def test_the_users_environment_beats_the_images_and_that_the_engines(
    name: str, of_image: str, of_user: str, more: tuple[tuple[str, str], ...]
) -> None:
    config = {"Cmd": ["x"], "Env": [f"{name}={of_image}", "PATH=/image"]}
    made = spec({"env": (*more, (name, of_user))}, config)
    env = dict(item.split("=", 1) for item in made.document["process"]["env"])
    assert env[name] == of_user
    assert len(env) == len(made.document["process"]["env"]), "a name twice"
    for index, item in enumerate(made.document["process"]["env"]):
        key = item.split("=", 1)[0]
        expected = {**dict.fromkeys(("PATH",), "image"), **{k: "user" for k, _ in more}}
        expected[name] = "user"
        assert source(made, f"/process/env/{index}") == expected.get(key, "engine")


def test_defaults_of_the_environment() -> None:
    made = document({"tty": True}, {"Cmd": ["sh"], "Env": ["broken", "=x"]}, user=SOMEBODY)
    env = made["process"]["env"]
    assert "TERM=xterm" in env and "container=oci" in env and "HOME=/home/ann" in env
    assert f"HOSTNAME={'ab' * 6}" in env
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in env
    assert not [item for item in env if item.startswith(("=", "broken"))]
    assert not [item for item in document()["process"]["env"] if item.startswith("TERM=")]


# --- rights ---------------------------------------------------------------------------------------


def capabilities(*args: Any, **changed: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = document(*args, **changed)["process"]["capabilities"]
    return found


def test_inheritable_and_ambient_are_always_empty() -> None:
    """CVE-2022-24769."""
    for asked in ({}, {"privileged": True}, {"cap_add": ("ALL",)}):
        for user in (SOMEBODY, User(0, 0)):
            found = capabilities(asked, user=user)
            assert found["inheritable"] == found["ambient"] == []


def test_a_user_who_is_not_root_starts_without_capabilities() -> None:
    found = capabilities({"cap_add": ("NET_ADMIN",)}, user=SOMEBODY)
    assert found["effective"] == found["permitted"] == []
    assert "CAP_NET_ADMIN" in found["bounding"]


@pytest.mark.parametrize(
    ("add", "drop", "gives"),
    [
        (("net_admin",), ("all",), ["CAP_NET_ADMIN"]),
        ((), ("ALL",), []),
        (("CAP_SYS_TIME",), ("ALL",), ["CAP_SYS_TIME"]),
    ],
)
def test_names_of_capabilities(add: Any, drop: Any, gives: list[str]) -> None:
    assert capabilities({"cap_add": add, "cap_drop": drop})["bounding"] == gives


def test_all_but_one() -> None:
    have = ("CAP_CHOWN", "CAP_KILL", "CAP_SYS_TIME")
    asked = {"cap_add": ("ALL",), "cap_drop": ("KILL",)}
    found = capabilities(asked, facts=facts(capabilities=have))
    assert found["bounding"] == ["CAP_CHOWN", "CAP_SYS_TIME"]


def test_capabilities_that_cannot_be() -> None:
    with pytest.raises(UserError, match="--cap-add 'LUNCH' is not a capability"):
        document({"cap_add": ("LUNCH",)})
    with pytest.raises(UserError, match="both in --cap-add and in --cap-drop"):
        document({"cap_add": ("KILL",), "cap_drop": ("cap_kill",)})
    with pytest.raises(UserError, match="you do not have it yourself"):
        document({"cap_add": ("SYS_TIME",)}, facts=facts(capabilities=("CAP_KILL",)))


def test_privileged_has_no_seccomp_no_masks_and_all_devices() -> None:
    made = document({"privileged": True})
    assert "seccomp" not in made["linux"]
    assert made["linux"]["maskedPaths"] == made["linux"]["readonlyPaths"] == []
    assert made["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "rw" in mount_at(made, "/sys")["options"]
    assert mount_at(made, "/sys/fs/cgroup")["options"][-1] == "rw"


def test_masks_can_be_lifted_and_added() -> None:
    linux = document({"security_opt": ("unmask=/proc/*", "mask=/a/../b:/c")})["linux"]
    assert not [p for p in linux["maskedPaths"] if p.startswith("/proc")]
    assert linux["maskedPaths"][-2:] == ["/b", "/c"]
    assert "readonlyPaths" not in linux
    with pytest.raises(UserError, match="absolute"):
        document({"security_opt": ("mask=proc",)})


# --- limits ---------------------------------------------------------------------------------------


def limits(*args: Any, **changed: Any) -> dict[str, tuple[int, int]]:
    found = document(*args, **changed)["process"]["rlimits"]
    return {limit["type"]: (limit["soft"], limit["hard"]) for limit in found}


def test_default_limits_are_clamped_to_the_callers_own() -> None:
    assert limits()["RLIMIT_NOFILE"] == (4096, 4096)
    assert limits(facts=facts(may_raise_limits=True))["RLIMIT_NOFILE"] == (1048576, 1048576)


def test_limits_of_the_host_are_inherited() -> None:
    found = document({"ulimits": (Ulimit("host", -1, -1),)})["process"]
    assert not found.get("rlimits")
    both = {"ulimits": (Ulimit("host", -1, -1), Ulimit("core", 0, 0))}
    assert limits(both) == {"RLIMIT_CORE": (0, 0)}


def test_a_limit_above_the_callers_own_is_refused() -> None:
    asked = {"ulimits": (Ulimit("nofile", 10, 5000),)}
    with pytest.raises(UserError, match=r"above your own hard limit 4096.*CAP_SYS_RESOURCE"):
        document(asked)
    assert limits(asked, facts=facts(may_raise_limits=True))["RLIMIT_NOFILE"] == (10, 5000)


def test_resources() -> None:
    asked = Resources(memory=1 << 26, cpus=0.5, cpu_shares=5, cpuset_cpus="0-1", pids_limit=9)
    found = document({"resources": asked})["linux"]["resources"]
    assert found["memory"] == {"limit": 1 << 26, "swap": 1 << 27}
    assert found["cpu"] == {"quota": 50000, "period": 100000, "shares": 5, "cpus": "0-1"}
    assert found["pids"] == {"limit": 9}
    assert document()["linux"]["resources"]["pids"] == {"limit": 2048}
    assert "pids" not in document({"resources": Resources(pids_limit=-1)})["linux"]["resources"]


def test_swap_is_left_alone_where_the_kernel_does_not_count_it() -> None:
    blind = facts(memory_swap=False)
    asked = {"resources": Resources(memory=1 << 26)}
    assert "swap" not in document(asked, facts=blind)["linux"]["resources"]["memory"]
    with pytest.raises(UserError, match="does not count swap"):
        document({"resources": Resources(memory=1 << 26, memory_swap=1 << 27)}, facts=blind)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Resources(memory=1000), "--memory 1000"),
        (Resources(memory=1 << 26, memory_swap=1 << 25), "--memory-swap"),
        (Resources(cpus=64.0), "this machine has 4"),
        (Resources(cpuset_cpus="0;1"), "--cpuset-cpus '0;1'"),
    ],
)
def test_limits_that_cannot_be(asked: Resources, says: str) -> None:
    with pytest.raises(UserError, match=says):
        document({"resources": asked})


# --- mounts ---------------------------------------------------------------------------------------


def test_host_network_never_shows_the_hosts_cgroups() -> None:
    """A bind mount of /sys would bring the mounts inside it, writable."""
    made = document({"network": "host"})
    assert mount_at(made, "/sys")["type"] == "sysfs"
    assert "ro" in mount_at(made, "/sys/fs/cgroup")["options"]


def test_the_users_mount_wins_over_the_engines() -> None:
    shm = Mount("bind", "/dev/shm", "/big", ("rw",))
    made = spec({"mounts": (shm,)})
    assert mount_at(made.document, "/dev/shm")["source"] == "/big"
    index = [m["destination"] for m in made.document["mounts"]].index("/dev/shm")
    assert source(made, f"/mounts/{index}") == "user"


def test_a_mount_comes_before_those_inside_it() -> None:
    asked = tuple(Mount("bind", place, "/src") for place in ("/etc", "/a/b", "/a", "/sys/fs"))
    made = document({"mounts": asked}, files=(("/etc/hosts", "/c/hosts"),))
    order = [m["destination"] for m in made["mounts"]]
    for inner in order:
        for outer in order:
            if inner.startswith(outer + "/"):
                assert order.index(outer) < order.index(inner), (outer, inner)


def test_a_dev_that_the_user_brings_has_its_own_terminals() -> None:
    order = [
        m["destination"] for m in document({"mounts": (Mount("bind", "/dev", "/dev"),)})["mounts"]
    ]
    assert "/dev/pts" not in order and "/dev/mqueue" not in order


def test_selinux_context_is_given_once() -> None:
    """The runtime adds linux.mountLabel to each tmpfs: twice, and the kernel refuses the mount."""
    made = document(mount_label="system_u:object_r:container_file_t:s0:c1,c2")
    assert made["linux"]["mountLabel"].endswith("c1,c2")
    assert not [o for m in made["mounts"] for o in m["options"] if o.startswith("context")]


def test_read_only_has_places_to_write() -> None:
    made = document({"read_only": True, "mounts": (Mount("bind", "/tmp", "/src"),)})
    assert made["root"]["readonly"] is True
    assert mount_at(made, "/run")["type"] == mount_at(made, "/var/tmp")["type"] == "tmpfs"
    assert mount_at(made, "/tmp")["type"] == "bind"


def test_options_of_mounts() -> None:
    (bind,) = mounts.user_mounts([Mount("bind", "/a/", "/src", ("z", "noexec"))])
    assert bind.mount["options"] == ["noexec", "rw", "rprivate", "rbind"]
    (tmp,) = mounts.user_mounts([Mount("tmpfs", "/t", options=("size=1m",))])
    assert tmp.mount["options"] == ["size=1m", "rw", "nosuid", "nodev", "rprivate", "tmpcopyup"]


@pytest.mark.parametrize(
    ("mount", "says"),
    [
        (Mount("bind", "a", "/src"), "absolute"),
        (Mount("bind", "/..", "/src"), "root directory"),
        (Mount("bind", "/a", "/src", ("lunch",)), "no such option 'lunch'"),
        (Mount("bind", "/a", "/src", ("ro", "rw")), "both ro and rw"),
        (Mount("bind", "/a", "/src", ("exec", "noexec")), "both exec and noexec"),
        (Mount("tmpfs", "/a", options=("lunch",)), "no such option 'lunch'"),
    ],
)
def test_mounts_that_cannot_be(mount: Mount, says: str) -> None:
    with pytest.raises(UserError, match=says):
        mounts.user_mounts([mount])


# --- namespaces -----------------------------------------------------------------------------------


def kinds(*args: Any, **changed: Any) -> dict[str, str]:
    found = document(*args, **changed)["linux"]["namespaces"]
    return {namespace["type"]: namespace.get("path", "") for namespace in found}


def test_namespaces() -> None:
    assert set(kinds()) == {"pid", "ipc", "uts", "mount", "network"}
    assert set(kinds(facts=facts(cgroup_v2=True))) == {*kinds(), "cgroup"}
    assert set(kinds({"cgroupns": "private"})) == {*kinds(), "cgroup"}
    assert kinds(netns="/run/netns/x")["network"] == "/run/netns/x"
    shared = {"pid": "host", "ipc": "host", "uts": "host", "network": "host"}
    assert set(kinds(shared)) == {"mount"}


def test_the_host_name() -> None:
    assert document()["hostname"] == "ab" * 6
    assert document({"hostname": "box"})["hostname"] == "box"
    assert document({"network": "host"})["hostname"] == "host"
    assert "hostname" not in document({"uts": "host"})


# --- what is asked for appears --------------------------------------------------------------------


@settings(max_examples=60)
@given(options, configs)
def test_what_is_asked_for_appears(chosen: dict[str, Any], config: dict[str, Any]) -> None:
    made = spec(chosen, config, init_program="/i").document
    for name, value in dict(chosen.get("annotations", ())).items():
        assert made["annotations"][name] == value
    for mount in chosen.get("mounts", ()):
        assert mount_at(made, mount.target)["type"] == mount.type
    if chosen.get("command"):
        assert made["process"]["args"][-len(chosen["command"]) :] == list(chosen["command"])
    if "hostname" in chosen:
        assert made["hostname"] == chosen["hostname"]
    if chosen.get("tty"):
        assert made["process"]["terminal"] is True
    for name, value in chosen.get("sysctls", ()):
        assert made["linux"]["sysctl"][name] == value


def test_labels_and_who_asked_for_them() -> None:
    labels = {
        "process_label": "system_u:system_r:container_t:s0:c1,c2",
        "mount_label": "system_u:object_r:container_file_t:s0:c1,c2",
        "apparmor_profile": "lunch",
    }
    made = spec(**labels)
    assert made.document["process"]["selinuxLabel"] == labels["process_label"]
    assert made.document["process"]["apparmorProfile"] == "lunch"
    assert made.origins["/process/selinuxLabel"].source == "engine"
    assert made.origins["/process/apparmorProfile"].source == "engine"
    made = spec({"security_opt": ("label=level:s0:c1,c2", "apparmor=lunch")}, **labels)
    assert made.origins["/process/selinuxLabel"].source == "user"
    assert made.origins["/linux/mountLabel"].detail == "--security-opt label=level:s0:c1,c2"
    assert made.origins["/process/apparmorProfile"].detail == "--security-opt apparmor=lunch"


def test_options_alone_label_nothing() -> None:
    """Only what a provider decided, on a machine that has the module, is in config.json."""
    made = document({"security_opt": ("label=type:a_t", "label=nested", "apparmor=lunch")})
    assert not {"selinuxLabel", "apparmorProfile"} & set(made["process"])
    assert "mountLabel" not in made["linux"]
    assert "/sys/fs/selinux" in made["linux"]["maskedPaths"]


def test_nested_shows_the_policy() -> None:
    nested = document({"security_opt": ("label=nested",)}, process_label="u:r:t:s0")
    assert "/sys/fs/selinux" not in nested["linux"]["maskedPaths"]
    assert mount_at(nested, "/sys/fs/selinux")["options"][-1] == "rw"
    plain = document(process_label="u:r:t:s0")
    assert "/sys/fs/selinux" in plain["linux"]["maskedPaths"]


def test_an_images_labels_do_not_become_annotations() -> None:
    """Runtimes take orders from annotations (crun: run.oci.*)."""
    config = {**CONFIG, "Labels": {"run.oci.handler": "wasm"}}
    assert "run.oci.handler" not in document(config=config)["annotations"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"command": ("a\udcff",)}, "is not UTF-8"),
        ({"command": ("a\0",)}, "NUL"),
        ({"env": (("A", "\udcff"),)}, "--env.*is not UTF-8"),
        ({"env": (("A=B", "c"),)}, "not a variable name"),
        ({"workdir": "here"}, "--workdir 'here' is not an absolute path"),
        ({"hostname": "x" * 65}, "--hostname"),
        ({"hostname": "x", "uts": "host"}, "--uts host"),
        ({"pid": "mine"}, "--pid 'mine'"),
        ({"security_opt": ("lunch=1",)}, "--security-opt 'lunch=1'"),
        ({"security_opt": ("seccomp=",)}, "needs a value"),
        ({"sysctls": (("kernel.panic", "1"),)}, "belongs to the host"),
        ({"sysctls": (("net.ipv4.ip_forward", "1"),), "network": "host"}, "change this machine"),
        ({"cap_drop": ("LUNCH",)}, "--cap-drop 'LUNCH'"),
    ],
)
def test_bad_requests_are_told_before_anything_is_made(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        check(ContainerOptions(image="i", **asked), CONFIG)


def test_the_module_is_quick_to_import() -> None:
    """Imports are the latency budget of every command."""
    heavy = "jsonschema trio asyncio dataclasses json ctypes importlib.metadata sqlite3 socket"
    code = (
        f"import sys, tiffin.spec.build; print([m for m in {heavy.split()!r} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
