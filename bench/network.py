"""Networks beside podman's: many attachments by several processes at once, throughput, latency.

network.py [-n CONTAINERS] [-w PROCESSES] [-t SECONDS] [-r ROUNDS] [WORD...]
words: crowd, iperf, latency

Times are of whole commands. The time of an attachment (and of its removal) is what `run -d` and
`rm -f` take longer with a network than with --network none, in the same crowd.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import engines
import images
from engines import IMAGE, Engine

PORTS = {"tiffin": 19001, "podman": 19002}
ECHO = """
import socket, sys
s = socket.create_server(("", int(sys.argv[1])))
c, _ = s.accept()
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while data := c.recv(64):
    c.sendall(data)
"""
ASK = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
times = []
for _ in range(5000):
    began = time.perf_counter()
    s.sendall(b"x")
    s.recv(64)
    times.append(time.perf_counter() - began)
print(sorted(times)[len(times) // 2] * 1e6)
"""


def row(name: str, ours: float, theirs: float, unit: str, goal: str = "") -> None:
    print(f"{name:34} {ours:9.1f} {theirs:9.1f} {unit:8} {ours / theirs:6.2f}  {goal}", flush=True)


# --- the crowd ------------------------------------------------------------------------------------


class Spent(NamedTuple):
    """Milliseconds a container: how long it took, and CPU time of all who worked for it."""

    coming: float
    going: float
    coming_cpu: float
    going_cpu: float


def crowd(engine: Engine, network: str, count: int, workers: int) -> Spent:
    """`run -d` and `rm -f` with `workers` processes at once."""
    names = [f"crowd{number}" for number in range(count)]

    def come(name: str) -> None:
        engine.run("run", "-d", "--name", name, "--network", network, IMAGE, "sleep", "100000")

    def go(name: str) -> None:
        engine.run("rm", "-f", "-t", "0", name)

    def spent(act: Callable[[str], None]) -> tuple[float, float]:
        began, used = time.perf_counter(), cpu()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(act, names))
        return (time.perf_counter() - began) * 1000 / count, (cpu() - used) * 1000 / count

    coming, coming_cpu = spent(come)
    if network != "none":
        unique(engine, names)
    going, going_cpu = spent(go)
    print(
        f"{engine.name}, {count} on {network}: run -d {coming:.0f} ms (CPU {coming_cpu:.0f}), "
        f"rm -f {going:.0f} ms (CPU {going_cpu:.0f}); load {os.getloadavg()[0]:.1f}",
        file=sys.stderr,
        flush=True,
    )
    return Spent(coming, going, coming_cpu, going_cpu)


def cpu() -> float:
    """CPU seconds of the cgroup that this namespace begins at, of the machine when it is in none
    of its own: monitors and name servers are nobody's children."""
    try:
        return int(Path("/sys/fs/cgroup/cpuacct/cpuacct.usage").read_text()) / 1e9
    except FileNotFoundError:
        ticks = Path("/proc/stat").read_text().split()[1:9]  # proc_stat(5); idle and iowait apart
        return sum(int(tick) for n, tick in enumerate(ticks) if n not in (3, 4)) / 100


def unique(engine: Engine, names: Sequence[str]) -> None:
    found = json.loads(engine.run("inspect", *names))
    addresses = [
        network["IPAddress"]
        for container in found
        for network in container["NetworkSettings"]["Networks"].values()
    ]
    if len(set(addresses)) != len(names):
        raise SystemExit(f"{engine.name}: {len(names)} containers, {len(set(addresses))} addresses")


def traces() -> set[str]:
    """Links and rules of the host, without those that the kernel or we count."""
    links = {name for _, name in socket.if_nameindex()}
    rules = subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True).stdout
    return links | {line.strip() for line in rules.splitlines() if "tiffin" in line}


def measure_crowd(pair: list[Engine], count: int, workers: int, rounds: int) -> None:
    found: dict[tuple[str, str], list[Spent]] = {}
    for number in range(rounds):
        for network in ("none", "bench"):
            for engine in pair if number % 2 else pair[::-1]:
                before = traces()
                spent = crowd(engine, network, count, workers)
                found.setdefault((engine.name, network), []).append(spent)
                if engine.name == "tiffin" and traces() != before:
                    raise SystemExit(f"left behind: {traces() ^ before}")
    medians = {
        key: Spent(*map(statistics.median, zip(*all_, strict=True))) for key, all_ in found.items()
    }
    for position, verb in enumerate(("run -d", "rm -f", "run -d, CPU", "rm -f, CPU")):
        none, bench = (
            [medians[engine.name, network][position] for engine in pair]
            for network in ("none", "bench")
        )
        row(f"{verb} --network none", none[0], none[1], "ms")
        row(f"{verb} --network bench", bench[0], bench[1], "ms")
        ours, theirs = (there - without for there, without in zip(bench, none, strict=True))
        row(f"{verb}: the network's part", ours, theirs, "ms", "" if position else "goal 0.30")


# --- packets --------------------------------------------------------------------------------------


def inside(engine: Engine, name: str, *command: str) -> list[str]:
    pid = engine.run("inspect", "-f", "{{.State.Pid}}", name).strip()
    return ["nsenter", f"--net=/proc/{pid}/ns/net", *command]


def address(engine: Engine, name: str) -> str:
    (found,) = json.loads(engine.run("inspect", name))
    (network,) = found["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def answer(server: list[str], client: list[str]) -> str:
    """Standard output of the client, which asks once the server listens."""
    with subprocess.Popen(server, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(50):
                done = subprocess.run(client, capture_output=True, text=True)
                if done.returncode == 0 and '"error"' not in done.stdout:  # iperf3 -J ends with 0
                    return done.stdout
                time.sleep(0.1)
            raise SystemExit(f"{' '.join(client)}: {done.stderr or done.stdout}")
        finally:
            process.kill()


def gigabits(engine: Engine, where: str, seconds: int) -> float:
    target, port = ends(engine, where)
    asked = ["iperf3", "-J", "-t", str(seconds), "-c", target, "-p", str(port)]
    client = asked if where == "published" else inside(engine, "client", *asked)
    text = answer(inside(engine, "server", "iperf3", "-s", "-1", "-p", "80"), client)
    return float(json.loads(text)["end"]["sum_received"]["bits_per_second"]) / 1e9


def microseconds(engine: Engine, where: str) -> float:
    target, port = ends(engine, where)
    asked = [sys.executable, "-c", ASK, target, str(port)]
    client = asked if where == "published" else inside(engine, "client", *asked)
    return float(answer(inside(engine, "server", sys.executable, "-c", ECHO, "80"), client))


def ends(engine: Engine, where: str) -> tuple[str, int]:
    """By the network, or by a published port at an address of the host that is not loopback."""
    if where == "network":
        return address(engine, "server"), 80
    return gateway(engine), PORTS[engine.name]


def gateway(engine: Engine) -> str:
    (found,) = json.loads(engine.run("inspect", "server"))
    (network,) = found["NetworkSettings"]["Networks"].values()
    return str(network["Gateway"])


def measure_packets(pair: list[Engine], words: Sequence[str], seconds: int, rounds: int) -> None:
    for engine in pair:
        port = ("-p", f"{PORTS[engine.name]}:80")
        sleep = (IMAGE, "sleep", "100000")
        engine.run("run", "-d", "--name=server", "--network=bench", *port, *sleep)
        engine.run("run", "-d", "--name=client", "--network=bench", *sleep)

    def medians(act: Callable[[Engine], float]) -> list[float]:
        found: dict[str, list[float]] = {engine.name: [] for engine in pair}
        for number in range(rounds):
            for engine in pair if number % 2 else pair[::-1]:
                found[engine.name].append(act(engine))
        return [statistics.median(found[engine.name]) for engine in pair]

    for where in ("network", "published"):
        name = "container to container" if where == "network" else "host to published port"
        if "iperf" in words:
            ours, theirs = medians(lambda e, where=where: gigabits(e, where, seconds))  # type: ignore[misc]
            row(f"iperf3 {name}", ours, theirs, "Gbit/s", "goal 1.00 (more is better)")
        if "latency" in words:
            ours, theirs = medians(lambda e, where=where: microseconds(e, where))  # type: ignore[misc]
            row(f"round trip {name}", ours, theirs, "us", "goal 1.00")


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("-w", type=int, default=4)
    parser.add_argument("-t", type=int, default=3)
    parser.add_argument("-r", type=int, default=3)
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    words = args.words or ["crowd", "iperf", "latency"]
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root")
    if "iperf" in words and not shutil.which("iperf3"):
        raise SystemExit("bench: needs iperf3: apt install iperf3")
    engines.enter_namespace()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # containers go then as well
    base = Path(tempfile.mkdtemp(prefix="tfb-", dir="/var/tmp"))
    pair: list[Engine] = [engines.Tiffin(base), engines.Podman(base)]
    try:
        images.rootfs(base / "rootfs.tar")
        for engine in pair:
            engine.run("import", f"{base}/rootfs.tar", IMAGE)
            engine.run("network", "create", "bench")
        print(f"{'':34} {'tiffin':>9} {'podman':>9} {'':8} {'ratio':>6}")
        if "crowd" in words:
            measure_crowd(pair, args.n, args.w, args.r)
        if "iperf" in words or "latency" in words:
            measure_packets(pair, words, args.t, args.r)
    finally:
        for engine in pair:
            engine.remove_all()
        engines.unmount_below(base)
        shutil.rmtree(base)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
