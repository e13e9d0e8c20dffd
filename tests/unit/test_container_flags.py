"""What the flags of create and run mean, and which values are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.cli.container_flags import FLAGS
from tiffin.cli.container_options import options_from
from tiffin.cli.environment_flags import environment
from tiffin.cli.flags import Call, Command, parse
from tiffin.cli.ports import parse_port
from tiffin.errors import UserError
from tiffin.options import ContainerOptions, Device, Mount, Port, Ulimit


def _nothing(call: Call) -> int:
    return 0


RUN = Command("run", "IMAGE", "Run", FLAGS, (1, None), (), _nothing, interspersed=False)


def asked(*words: str, network_default: str = "") -> ContainerOptions:
    options, arguments = parse(RUN, [*words, "image", "cmd", "-x"])
    return options_from(options, arguments, network_default=network_default)


def test_nothing_asked_for_is_nothing_but_image_and_command() -> None:
    assert asked() == ContainerOptions(image="image", command=("cmd", "-x"))


def test_simple_flags() -> None:
    options = asked(
        *"-itd --rm --name web -w /srv -u 1:2 -h box --privileged --read-only --init -P".split(),
        *"--stop-signal INT --stop-timeout 3 --group-add a,b --pid host --shm-size 1m".split(),
        *"--cap-add NET_ADMIN,sys_time --cap-drop all --security-opt no-new-privileges".split(),
        *"--label a=b -l c --annotation d=e=f --sysctl net.x=1 --dns 1.1.1.1 -c 5".split(),
    )
    assert options.tty and options.interactive and options.detach and options.remove
    assert options.privileged and options.read_only and options.init and options.publish_all
    assert (options.name, options.workdir, options.user) == ("web", "/srv", "1:2")
    assert (options.hostname, options.pid, options.shm_size) == ("box", "host", 1 << 20)
    assert (options.stop_signal, options.stop_timeout) == ("INT", 3)
    assert options.group_add == ("a", "b")
    assert options.cap_add == ("NET_ADMIN", "sys_time") and options.cap_drop == ("all",)
    assert options.labels == (("a", "b"), ("c", ""))
    assert options.annotations == (("d", "e=f"),)
    assert options.sysctls == (("net.x", "1"),)
    assert options.resources.cpu_shares == 5


def test_environment_from_flags_files_and_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIFF_A", "1")
    monkeypatch.setenv("TIFF_B", "2 3")
    monkeypatch.delenv("TIFF_GONE", raising=False)
    file = tmp_path / "env"
    file.write_text('# note\n\nX=from file\nTIFF_A\nY= spaces \nQ="kept"\r\n')
    found = dict(environment(["X=mine", "TIFF_*", "TIFF_GONE", "E="], [str(file)]))
    assert found == {
        "X": "mine",
        "TIFF_A": "1",
        "TIFF_B": "2 3",
        "Y": " spaces ",
        "Q": '"kept"',
        "E": "",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [('["sh", "-c"]', ("sh", "-c")), ("/bin/a b", ("/bin/a b",)), ("", ()), ("[]", ())],
)
def test_entrypoint(text: str, words: tuple[str, ...]) -> None:
    assert asked("--entrypoint", text).entrypoint == words
    assert asked(f"--entrypoint={text}").entrypoint == words


def test_bind_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)
    full = str(tmp_path / "d")
    assert asked("-v", "./d:/x:ro,Z").mounts == (Mount("bind", "/x", full, ("ro", "Z")),)
    assert asked("-v", f"{full}:/x").mounts == (Mount("bind", "/x", full),)
    text = f"type=bind,src={full},target=/y,readonly,bind-propagation=rslave"
    assert asked("--mount", text).mounts == (Mount("bind", "/y", full, ("ro", "rslave")),)
    assert asked("--tmpfs", "/t:size=1m,mode=1777", "--mount=type=tmpfs,dst=/u,tmpfs-size=2m") == (
        ContainerOptions(
            image="image",
            command=("cmd", "-x"),
            mounts=(
                Mount("tmpfs", "/u", "", ("size=2m",)),
                Mount("tmpfs", "/t", "", ("size=1m", "mode=1777")),
            ),
        )
    )


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", [Port(80)]),
        ("8080:80", [Port(80, 8080)]),
        ("8080:80/udp", [Port(80, 8080, "udp")]),
        ("127.0.0.1:8080:80", [Port(80, 8080, "tcp", "127.0.0.1")]),
        ("127.0.0.1::80", [Port(80, 0, "tcp", "127.0.0.1")]),
        ("[::1]:80:80/udp", [Port(80, 80, "udp", "::1")]),
        ("[::1]::80", [Port(80, 0, "tcp", "::1")]),
        (":80", [Port(80)]),
        ("8000-8001:80-81", [Port(80, 8000), Port(81, 8001)]),
        ("80-81/TCP", [Port(80), Port(81)]),
        ("0:80", [Port(80)]),
    ],
)
def test_published_ports(text: str, ports: list[Port]) -> None:
    assert list(parse_port(text)) == ports
    assert list(asked("-p", text).ports) == ports


@given(st.text(alphabet="0123456789:./-[]tcpudx ", max_size=24))
def test_any_port_text_is_parsed_or_refused(text: str) -> None:
    try:
        ports = parse_port(text)
    except UserError:
        return
    assert all(0 < port.container_port < 65536 and 0 <= port.host_port < 65536 for port in ports)


def test_resources() -> None:
    words = "-m 512m --memory-swap 1g --memory-reservation 100m --cpus 1.5 --cpuset-cpus 0-1,3"
    resources = asked(*words.split(), "--pids-limit", "0").resources
    assert resources.memory == 512 << 20
    assert resources.memory_swap == 1 << 30
    assert resources.memory_reservation == 100 << 20
    assert resources.cpus == 1.5
    assert resources.cpuset_cpus == "0-1,3"
    assert resources.pids_limit == -1
    assert asked("-m1g", "--memory-swap=-1").resources.memory_swap == -1


def test_ulimits_devices_hosts_networks() -> None:
    options = asked(
        *"--ulimit nofile=10:20 --ulimit RLIMIT_CORE=-1 --device /dev/null:/dev/zero:r".split(),
        *"--add-host a:1.2.3.4 --add-host b:::1 --add-host c:host-gateway --net one".split(),
        *"--network two".split(),
    )
    assert options.ulimits == (Ulimit("nofile", 10, 20), Ulimit("core", -1, -1))
    assert options.devices == (Device("/dev/null", "/dev/zero", "r"),)
    assert options.add_hosts == (("a", "1.2.3.4"), ("b", "::1"), ("c", "host-gateway"))
    assert options.network == "one,two"
    several = asked("--add-host", "a;b:1.2.3.4", "--add-host", "c=[fd00::1]")
    assert several.add_hosts == (("a", "1.2.3.4"), ("b", "1.2.3.4"), ("c", "fd00::1"))
    assert asked("--dns-opt", "a", "--dns-option", "b").dns_options == ("b", "a")
    assert [asked("--network", w).network for w in ("private", "default")] == ["", ""]
    assert asked("--no-hosts").no_hosts and not options.no_hosts
    assert asked(network_default="none").network == "none"
    assert asked("--network=host", network_default="none").network == "host"
    assert asked("--network=private", network_default="none").network == "none"
    assert asked("--ulimit=host").ulimits == (Ulimit("host", -1, -1),)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("-v /no/such/place:/x", "-v: no such file or directory: /no/such/place"),
        ("-v da/ta:/x", "is not a volume name"),
        ("-v data", "not an absolute path"),
        ("-v /tmp:x", "'x' is not an absolute path"),
        ("-v /tmp:/", "container's root"),
        ("-v /tmp:/x:rp", "option 'rp' is not known"),
        ("-v /tmp:/x -v /etc:/x/", "two mounts in the same place"),
        ("-v /a:/b:ro:z", "not of the form"),
        ("--mount type=volume,src=a/b,dst=/x", "is not a volume name"),
        ("--mount type=bind,dst=/x", "has no source"),
        ("--mount type=tmpfs", "has no destination"),
        ("--tmpfs /x:sise=1m", "option 'sise=1m' is not known"),
        ("-p 99999:80", "99999 is not a port"),
        ("-p 80:0", "0 is not a port"),
        ("-p 1-3:1-2", "differ in length"),
        ("-p 80/tpc", "the protocol is one of"),
        ("-p ::1:80:80", "needs brackets"),
        ("-p 300.1.1.1:80:80", "is not an IP address"),
        ("-p 9-8", "runs backwards"),
        ("-m lots", "--memory 'lots' is not a size"),
        ("-m 1g --memory-swap 1m", "is less than --memory"),
        ("--memory-swap 1g", "needs --memory"),
        ("--cpus many", "--cpus 'many' is not a number"),
        ("--cpus -1", "not a number of processors"),
        ("--cpuset-cpus 3-1", "not a list of numbers"),
        ("--pids-limit -7", "--pids-limit -7 is too small"),
        ("--ulimit nofile", "is not a limit"),
        ("--ulimit nofile=5:1", "soft limit is above"),
        ("--env =x", "has no name"),
        ("--env-file /no/such", "--env-file /no/such: No such file"),
        ("--entrypoint [1]", "not a JSON array of strings"),
        ("--device /dev/nope", "no such file or directory: /dev/nope"),
        ("--device /dev/null:q", "is not a device"),
        ("--add-host x", "NAME:ADDRESS"),
        ("--add-host x:y", "is not an IP address"),
        ("--add-host x;:1.2.3.4", "NAME:ADDRESS"),
        ("--add-host x:1.2.3.4 --no-hosts", "--no-hosts leaves /etc/hosts to the image"),
        ("--dns x", "--dns 'x' is not an IP address"),
        ("--pull sometimes", "allowed: always, missing, never, newer"),
        ("--pid shared", "--pid 'shared' is not known"),
        ("-w srv", "--workdir 'srv' is not an absolute path"),
        ("-h -x-", "is not a host name"),
        ("--annotation x", "NAME=VALUE"),
        ("-a out", "is not a stream"),
        ("--network container:", "names no container"),
        ("--network pasta --ip 10.1.2.3", "--ip can only be set on a network"),
        ("--network slirp4netns:mtu=9000 --network-alias x", "--network-alias x is for networks"),
        ("--stop-timeout -1", "--stop-timeout -1 is too small"),
    ],
)
def test_bad_values_are_named_in_one_line(words: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        asked(*words.split())
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
