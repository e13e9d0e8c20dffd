"""Users, the files of /etc, seccomp profiles, plugins' amendments."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_requests import document, facts, spec

from tiffin.errors import DriverError, UserError
from tiffin.hooks import Amendment, Attachment, NetworkConfig, Subnet
from tiffin.spec import amend, files, seccomp, seccomp_builtin, users
from tiffin.spec.files import Resolving
from tiffin.spec.origins import leaves, origin_of, split, token

PASSWD = """root:x:0:0:root:/root:/bin/sh
ann:x:1000:100:Ann:/home/ann:/bin/sh
7:x:70:71::relative:/bin/sh
broken
bad:x:x:1::/:
huge:x:99999999999:1::/:
nul:x:5:5::/a\0b:
"""
GROUP = "root:x:0:\nusers:x:100:\nvideo:x:44:bob,ann\naudio:x:29:ann\nbroken:x\n55:x:0:\n"


def who(given: str, *add: str) -> tuple[int, int, tuple[int, ...], str]:
    user = users.resolve(given, PASSWD, GROUP, add)
    return user.uid, user.gid, user.additional_gids, user.home


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", (0, 0, (), "/root")),
        ("root", (0, 0, (), "/root")),
        ("ann", (1000, 100, (100, 44, 29), "/home/ann")),
        ("1000", (1000, 100, (100, 44, 29), "/home/ann")),
        ("ann:video", (1000, 44, (44,), "/home/ann")),
        ("ann:5", (1000, 5, (5,), "/home/ann")),
        ("1234", (1234, 0, (0,), "/")),
        ("1234:1", (1234, 1, (1,), "/")),
        ("7", (7, 0, (0,), "/")),
        ("1000:55", (1000, 55, (55,), "/home/ann")),
        ("nul", (5, 5, (5,), "/")),
        ("0:44", (0, 44, (), "/root")),
    ],
)
def test_users(given: str, found: Any) -> None:
    """A user who is not root keeps the own group among the additional ones (CVE-2022-2989)."""
    assert who(given) == found


def test_a_number_is_never_a_name() -> None:
    """CVE-2016-3697: an image whose root is called `1000` must not make a root of `-u 1000`."""
    passwd, group = "1000:x:0:0::/:\n", "1000:x:0:\n"
    assert users.resolve("1000", passwd, group).uid == 1000
    assert users.resolve("1000:1000", passwd, group).gid == 1000
    assert users.resolve("5:5", passwd, group, ["1000"]).additional_gids == (5, 1000)


@pytest.mark.parametrize(
    "given", ["4294967296", "4294967295", "18446744073709551616", "-4294967296"]
)
def test_a_number_that_would_wrap_to_root_is_no_user(given: str) -> None:
    """CVE-2024-40635: `USER 4294967296` is 0 where it is cut to 32 bits."""
    with pytest.raises(UserError):
        users.resolve(given, "", "")


def test_group_add() -> None:
    assert who("1234:1", "video", "9") == (1234, 1, (1, 44, 9), "/")
    assert who("", "video") == (0, 0, (44,), "/root")


@pytest.mark.parametrize("given", ["bob", "-1", "4294967295", "9" * 5000, "bad", "huge", "ann\n"])
def test_no_such_user(given: str) -> None:
    with pytest.raises(UserError, match=r"no user .* in the image"):
        who(given)
    with pytest.raises(UserError, match=r"no group .* in the image"):
        who(f"ann:{given}")


@settings(max_examples=100)
@given(st.text(max_size=200), st.text(max_size=200), st.text(min_size=1, max_size=12))
def test_no_file_makes_it_fall_over(passwd: str, group: str, given: str) -> None:
    try:
        user = users.resolve(given, passwd, group)
    except UserError:
        return
    assert 0 <= user.uid <= users.MAX_ID and 0 <= user.gid <= users.MAX_ID
    assert user.home.startswith("/")


def test_files_of_the_container_are_read_in_its_root(tmp_path: Path) -> None:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "passwd").write_text("root:x:0:0::/secret:\n")
    (tmp_path / "root" / "etc" / "passwd").symlink_to(tmp_path / "passwd")
    os.mkfifo(tmp_path / "root" / "etc" / "group")
    assert users.in_container(str(tmp_path / "root"), "").home == "/root"
    (tmp_path / "root" / "etc" / "passwd").unlink()
    (tmp_path / "root" / "etc" / "passwd").write_bytes(b"\xff\xfe\nann:x:7:8::/h\xff:\n")
    user = users.in_container(str(tmp_path / "root"), "ann")
    assert (user.uid, user.gid) == (7, 8)
    user.home.encode("utf-8")


# --- /etc -----------------------------------------------------------------------------------------


def test_hosts() -> None:
    text = files.hosts(
        ["10.89.0.5"],
        ["box", "lunch", "box"],
        [("db", "10.0.0.9"), ("up", "host-gateway")],
        "10.89.0.1",
    )
    lines = [line.split() for line in text.splitlines()]
    assert ["127.0.0.1", "localhost", "localhost.localdomain"] in lines
    assert lines[1][0] == "::1"
    assert ["10.89.0.5", "box", "lunch"] in lines
    assert ["10.0.0.9", "db"] in lines and ["10.89.0.1", "up"] in lines
    assert ["10.89.0.1", "host.containers.internal", "host.docker.internal"] in lines
    with pytest.raises(UserError, match="no gateway"):
        files.hosts([], ["box"], [("up", "host-gateway")])


def test_on_the_hosts_network_the_hosts_names_are_known() -> None:
    host = "127.0.0.1 localhost me\n# printer\n10.1.2.3 printer\n"
    text = files.hosts([], ["me", "lunch"], [("up", "host-gateway")], host=host)
    assert text == f"127.0.0.1\tup\n{host}127.0.1.1\tlunch\n"


def test_resolv_conf() -> None:
    host = "# mine\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch lan\noptions edns0\n\n"
    own = files.resolv_conf(host, Resolving()).splitlines()
    assert own == ["search lan", "nameserver 10.0.0.2", "options edns0"]
    assert "nameserver 127.0.0.53" in files.resolv_conf(host, Resolving(own_network=False))
    chosen = files.resolv_conf(host, Resolving(servers=("9.9.9.9",)))
    assert "nameserver 9.9.9.9\n" in chosen and "10.0.0.2" not in chosen
    linked = files.resolv_conf("nameserver fe80::1%eth0\nnameserver fd00::5\n", Resolving())
    assert linked == "nameserver fd00::5\n"
    alone = files.resolv_conf("nameserver ::1\n", Resolving())
    assert "::1" not in alone and "nameserver" in alone
    words = files.resolv_conf(host, Resolving(domains=("a.b", "c"), options=("ndots:3",)))
    assert words.splitlines() == ["search a.b c", "nameserver 10.0.0.2", "options ndots:3"]
    assert "search" not in files.resolv_conf(host, Resolving(domains=(".",), own_domains=("d",)))
    both = files.resolv_conf("domain corp\n", Resolving(own_domains=("d",)))
    assert "search d corp\n" in both


@pytest.mark.parametrize(
    ("host", "only"),
    [
        ("nameserver 127.0.0.53\noptions edns0\n", True),
        ("nameserver ::1\nnameserver fe80::1%eth0\n", True),
        ("nameserver 127.0.0.53\nnameserver 10.0.0.2\n", False),
        ("search lan\n", False),
        ("", False),
    ],
)
def test_servers_that_only_the_host_can_ask(host: str, only: bool) -> None:
    assert files.only_here(host) is only


def attached(name: str, gateway: str, **more: Any) -> Attachment:
    net = NetworkConfig(
        id=name,
        name=name,
        driver="bridge",
        interface=name,
        subnets=(Subnet(f"{gateway}/24", gateway),),
        **more,
    )
    return Attachment("c", net, "/ns", "eth0", "host", "02:00:00:00:00:01", ())


def test_gateways_of_networks_with_names_are_asked() -> None:
    lunch = attached("lunch", "10.1.0.1", dns_enabled=True)
    plain = attached("plain", "10.2.0.1")
    inner = attached("inner", "10.3.0.1", dns_enabled=True, internal=True)

    def asked(*attachments: Attachment, dns: tuple[str, ...] = ()) -> Resolving:
        return files.resolving(attachments, dns, (), (), own_network=True)

    assert asked(plain) == Resolving()
    assert asked(plain, dns=("9.9.9.9",)).servers == ("9.9.9.9",)
    both = asked(inner, lunch, dns=("9.9.9.9",))
    assert (both.servers, both.own_domains) == (("10.1.0.1",), (files.DOMAIN,))
    assert asked(inner).servers == ("10.3.0.1",)
    assert asked(inner).options == files.PATIENCE
    assert asked(inner, plain).options == ()


# --- seccomp --------------------------------------------------------------------------------------


def allowed(profile: Any, capabilities: set[str], machine: str = "x86_64") -> set[str]:
    found = seccomp.resolve(profile, capabilities, machine, "6.1.0-13")
    return {
        name
        for rule in found["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"]
    }


def test_conditions_of_a_profile_are_resolved() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_KILL"]}},
            {"names": ["b"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_KILL"]}},
            {"names": ["c"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["d"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.0"}},
            {"names": ["e"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.10"}},
            {"names": ["f"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": None},
        ],
    }
    assert allowed(profile, {"CAP_KILL"}) == {"a", "d"}
    assert allowed(profile, set()) == {"b", "d"}
    assert allowed(profile, set(), "aarch64") == {"b", "c", "d"}
    found = seccomp.resolve(profile, (), "x86_64", "6.1")
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert found["syscalls"][-1] == {"names": ["f"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}


def test_our_own_profile_denies_by_default() -> None:
    assert seccomp_builtin.PROFILE["defaultAction"] == "SCMP_ACT_ERRNO"
    plain = allowed(seccomp_builtin.PROFILE, set())
    assert {"read", "execve", "futex", "clone", "openat2"} - plain <= {"openat2"}
    forbidden = {
        "mount", "umount2", "unshare", "setns", "bpf", "kexec_load", "init_module", "reboot",
        "ptrace", "keyctl", "add_key", "open_by_handle_at", "perf_event_open", "userfaultfd",
        "io_uring_setup", "swapon", "settimeofday", "pivot_root", "chroot", "clone3",
    }  # fmt: skip
    assert not forbidden & plain
    assert {"mount", "unshare", "clone3"} <= allowed(seccomp_builtin.PROFILE, {"CAP_SYS_ADMIN"})


def test_unconfined_has_none_and_a_file_its_own(tmp_path: Path) -> None:
    assert "seccomp" not in document({"security_opt": ("seccomp=unconfined",)})["linux"]
    (tmp_path / "p.json").write_text('{"defaultAction": "SCMP_ACT_LOG"}')
    profile = seccomp.load(str(tmp_path / "p.json"))
    made = spec({"security_opt": ("seccomp=p.json",)}, seccomp_profile=profile)
    assert made.document["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_LOG"
    origin = origin_of(made.origins, "/linux/seccomp/defaultAction")
    assert origin is not None and origin.source == "user"


@pytest.mark.parametrize("text", [b"{", b"[]", b"{}", b"\xff", b'{"a": "\xff"}'])
def test_files_that_are_no_profile(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(text)
    with pytest.raises(UserError, match=str(path)):
        seccomp.load(str(path))


@pytest.mark.parametrize("syscalls", [1, [1], [{}], [{"action": "x", "includes": 5}]])
def test_profiles_that_are_none(syscalls: Any) -> None:
    profile = {"defaultAction": "SCMP_ACT_LOG", "syscalls": syscalls}
    with pytest.raises(UserError, match="not a seccomp profile"):
        document(facts=facts(seccomp_profile=profile))


# --- amendments -----------------------------------------------------------------------------------


def amended(*amendments: Amendment) -> Any:
    made = spec({"env": (("A", "1"),)})
    amend.apply(made.document, made.origins, "mine", amendments)
    return made


def test_amendments_are_recorded_as_the_plugins() -> None:
    made = amended(
        Amendment("/process/env/-", "B=2", "because"),
        Amendment("/annotations/a~1b~0c", "x"),
        Amendment("/linux/intelRdt/closID", "guard"),
        Amendment("/hooks/prestart/-", {"path": "/bin/hook"}),
        Amendment("/process/noNewPrivileges", True),
    )
    document = made.document
    assert document["process"]["env"][-1] == "B=2"
    assert document["annotations"]["a/b~c"] == "x"
    assert document["linux"]["intelRdt"] == {"closID": "guard"}
    assert document["hooks"] == {"prestart": [{"path": "/bin/hook"}]}
    for pointer in (
        f"/process/env/{len(document['process']['env']) - 1}",
        "/annotations/a~1b~0c",
        "/linux/intelRdt/closID",
        "/hooks/prestart/0/path",
        "/process/noNewPrivileges",
    ):
        origin = origin_of(made.origins, pointer)
        assert origin is not None and origin.source == "plugin mine", pointer


def test_an_amendment_changes_one_place_of_one_container() -> None:
    seen = json.dumps(seccomp_builtin.PROFILE)
    made = amended(
        Amendment("/process/capabilities/effective/-", "CAP_MINE"),
        *(Amendment(p, "x") for p, _ in leaves(spec().document) if p.startswith("/linux/seccomp")),
    ).document
    sets = made["process"]["capabilities"]
    assert "CAP_MINE" in sets["effective"]
    assert "CAP_MINE" not in sets["bounding"] and "CAP_MINE" not in sets["permitted"]
    assert json.dumps(seccomp_builtin.PROFILE) == seen


def test_what_is_replaced_loses_its_old_origins() -> None:
    made = amended(Amendment("/process/env", ["ONLY=1"]))
    origin = origin_of(made.origins, "/process/env/0")
    assert origin is not None and origin.source == "plugin mine"


def test_items_behind_a_removed_one_keep_their_origins() -> None:
    before = spec({"env": (("A", "1"),)})
    made = amended(Amendment("/process/env/0", None))
    for index, item in enumerate(made.document["process"]["env"]):
        old = before.document["process"]["env"].index(item)
        assert origin_of(made.origins, f"/process/env/{index}") == origin_of(
            before.origins, f"/process/env/{old}"
        )


@settings(max_examples=60)
@given(st.data())
def test_every_leaf_has_an_origin_after_any_amendment(data: st.DataObject) -> None:
    made = spec()
    for _ in range(3):
        pointer = data.draw(
            st.sampled_from([p for p, _ in leaves(made.document) if "seccomp" not in p])
        )
        value = data.draw(st.sampled_from([None, 1, "x", ["a"], {"k": "v"}]))
        amend.apply(made.document, made.origins, "mine", [Amendment(pointer, value)])
    for pointer, _ in leaves(made.document):
        assert origin_of(made.origins, pointer) is not None, pointer
    json.dumps(made.document)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", 1),
        ("process", 1),
        ("/lunch/box", 1),
        ("/process/args/-1", "x"),
        ("/process/args/01", "x"),
        ("/process/args/99", "x"),
        ("/process/args/" + "9" * 5000, "x"),
        ("/process/args/x", "x"),
        ("/process/args/-", None),
        ("/process/cwd/deeper", 1),
        ("/process/cwd/deeper/still", 1),
        ("/annotations/~2", "x"),
        ("/annotations/nothing", None),
        ("/annotations/x", b"bytes"),
        ("/annotations/x", {1: 2}),
        ("/annotations/x", "\udcff"),
        ("/annotations/x", float("nan")),
        (None, 1),
    ],
)
def test_a_bad_amendment_names_the_plugin(pointer: Any, value: Any) -> None:
    with pytest.raises(DriverError, match="plugin mine"):
        amended(Amendment(pointer, value))


@given(st.text(max_size=20))
def test_any_name_is_a_token(name: str) -> None:
    assert split(f"/a/{token(name)}") == ["a", name]
