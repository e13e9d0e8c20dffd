"""`--network pasta:...` and `--network slirp4netns:...`: the words, and the command lines."""

from __future__ import annotations

import errno

import pytest

from tiffin import host_ports, network_modes
from tiffin.cli.joins import parse
from tiffin.errors import Conflict, DriverError, UserError
from tiffin.hooks import Attachment, NetworkConfig, PortMapping, Subnet
from tiffin.options import NetworkOptions
from tiffin_net_pasta import driver as pasta
from tiffin_net_pasta import words as pasta_words
from tiffin_net_slirp4netns import driver as slirp
from tiffin_net_slirp4netns import words as slirp_words


def test_options_of_a_stack_are_that_programs_words() -> None:
    assert parse(["pasta:-t,8080,--mtu=1500"], "") == (
        "pasta",
        (NetworkOptions("pasta", words=("-t", "8080", "--mtu=1500")),),
    )
    assert parse(["slirp4netns:"], "") == ("slirp4netns", ())
    assert network_modes.on("pasta") == [] and network_modes.attached("pasta")
    with pytest.raises(UserError, match="cannot be combined"):
        parse(["pasta:-4", "lunch"], "")


def test_words_of_pasta() -> None:
    asked = pasta_words.read(
        "-m 1500 --ipv4-only -a 10.5.0.9 -n 16 -g 10.5.0.1 -I tap0 --map-gw -T 5000 --no-icmp "
        "--dns-forward=10.5.0.3".split()
    )
    assert (asked.addresses, asked.netmask, asked.gateways) == (("10.5.0.9",), "16", ("10.5.0.1",))
    assert (asked.mtu, asked.interface, asked.ipv6, asked.map_gateway) == (
        1500,
        "tap0",
        False,
        True,
    )
    assert asked.forward == ("10.5.0.3",)
    assert asked.left == ("--tcp-ns", "5000", "--no-icmp")
    assert pasta_words.read(()) == pasta_words.Asked()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--colour", "'--colour' is not an option"),
        ("--netns,/proc/1/ns/net", "'--netns' is not an option"),
        ("--runas,0", "'--runas' is not an option"),
        ("--pid=/etc/passwd", "'--pid=/etc/passwd' is not an option"),
        ("-t", "-t lacks its value"),
        ("--mtu,40", "--mtu 40: not between"),
        ("--mtu,x", "--mtu x: not between"),
    ],
)
def test_words_that_pasta_is_not_told(words: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        pasta_words.read(words.split(","))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def attachment(*ports: PortMapping, **options: str) -> Attachment:
    network = NetworkConfig(
        id="ab" * 32,
        name="pasta",
        driver="pasta",
        interface="",
        subnets=(Subnet("10.0.2.0/24", "10.0.2.2"),),
        options=options,
        dns=("10.0.2.3",),
    )
    return Attachment(
        container="ab" * 32,
        network=network,
        netns="/run/ns",
        interface="eth0",
        host_interface="tf0",
        mac="02:76:ab:ab:ab:ab",
        addresses=("10.0.2.100/24",),
        ports=ports,
    )


def test_the_command_line_of_pasta() -> None:
    ports = (
        PortMapping(8080, 80),
        PortMapping(53, 5353, "udp", "127.0.0.1"),
    )
    line = " ".join(pasta.arguments(attachment(*ports), "/run/pid", "lo", root=True))
    assert line == (
        "pasta --quiet --config-net --pid /run/pid --netns /run/ns --ns-ifname eth0 "
        "--ns-mac-addr 02:76:ab:ab:ab:ab --interface lo --mac-addr 02:76:00:00:00:01 "
        "--address 10.0.2.100 --gateway 10.0.2.2 --netmask 24 --ipv4-only --no-map-gw "
        "--dns-forward 10.0.2.3 --runas 0:0 --tcp-ports 8080:80 --udp-ports 127.0.0.1/53:5353 "
        "--tcp-ns none --udp-ns none"
    )
    own = attachment(words="--tcp-ports,auto,--no-icmp", map_gateway="True")
    argv = pasta.arguments(own, "/run/pid", "eth1", root=False)
    assert argv[-3:] == ["--tcp-ports", "auto", "--no-icmp"] and argv.count("--tcp-ports") == 1
    assert not {"--no-map-gw", "--runas", "--mac-addr"} & set(argv)


def test_words_of_slirp4netns() -> None:
    asked = slirp_words.read(
        "allow_host_loopback=true,mtu=1400,cidr=10.7.0.0/24,enable_ipv6=false,outbound_addr=eth1,"
        "outbound_addr6=eth1,port_handler=rootlesskit".split(",")
    )
    assert asked == slirp_words.Asked("10.7.0.0/24", 1400, False, True, "eth1", "eth1")
    assert slirp_words.read(()) == slirp_words.Asked()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("mtu", "not of the form KEY=VALUE"),
        ("colour=red", "unknown option colour"),
        ("mtu=70000", "mtu=70000: not between"),
        ("enable_ipv6=perhaps", "enable_ipv6=perhaps: true or false"),
        ("port_handler=magic", "port_handler=magic"),
    ],
)
def test_words_that_slirp4netns_is_not_told(words: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        slirp_words.read(words.split(","))
    assert says in str(caught.value)


def test_the_command_line_of_slirp4netns() -> None:
    own = attachment(host_loopback="True", outbound_addr="eth1", outbound_addr6="")
    argv = slirp.arguments(own, "/usr/bin/slirp4netns", 7)
    assert argv[-2:] == ["/run/ns", "eth0"]
    assert {"--ready-fd=7", "--cidr=10.0.2.0/24", "--outbound-addr=eth1"} <= set(argv)
    assert "--disable-host-loopback" not in argv and "--enable-ipv6" not in argv
    assert "--disable-host-loopback" in slirp.arguments(attachment(), "slirp4netns", 7)


def test_why_a_port_cannot_be_had() -> None:
    low = host_ports.refusal(errno.EACCES, "80/tcp", 80)
    assert isinstance(low, UserError)
    assert "net.ipv4.ip_unprivileged_port_start is" in low.what
    assert "sysctl -w net.ipv4.ip_unprivileged_port_start=80" in low.hint
    assert isinstance(host_ports.refusal(errno.EADDRINUSE, "80/tcp", 80), Conflict)
    assert isinstance(host_ports.refusal(errno.EADDRNOTAVAIL, "80/tcp", 80), DriverError)
