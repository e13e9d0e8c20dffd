"""Times an ordinary user's `run --rm` beside rootless podman: see README.md.

rootless.py [-n ROUNDS] [--check] [WORD...]      only what has one of the words in its name

Makes an account for it, and takes it away. Podman 4.3 has no pasta: there it is slirp4netns, which
is its default.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import engines
import images
from engines import IMAGE, Engine
from run import Measurement, measure, report

USER = "tfbench"


class AsUser(Engine):
    """An engine as this account has it after a login."""

    def __init__(self, home: Path, *argv: str, env: Mapping[str, str]) -> None:
        who = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--")
        self.argv = (*who, *argv)
        self.env = {"HOME": str(home), "XDG_RUNTIME_DIR": f"{home}/run", **env}


class Tiffin(AsUser):
    name = "tiffin"
    network = "pasta"

    def __init__(self, home: Path) -> None:
        super().__init__(home, str(Path(sys.executable).parent / "tiffin"), env={})


class Podman(AsUser):
    name = "podman"
    network = "slirp4netns"

    def __init__(self, home: Path) -> None:
        settings = home / "containers.conf"
        settings.write_text(engines.CONTAINERS_CONF)
        flags = ("--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=crun")
        super().__init__(home, "podman", *flags, env={"CONTAINERS_CONF": str(settings)})


def run(network: str) -> Measurement:
    def act(engine: Engine) -> object:
        return engine.run("run", "--rm", f"--network={network}", IMAGE, "true")

    return Measurement(f"run --rm {network}", 0.8, act)


def outward(engine: Engine) -> object:
    """The network that users have by default."""
    assert isinstance(engine, (Tiffin, Podman))
    return engine.run("run", "--rm", f"--network={engine.network}", IMAGE, "true")


MEASUREMENTS = (
    run("none"),
    Measurement("run --rm pasta", 0.8, outward),
    run("slirp4netns"),
    run("own"),
    Measurement(
        "create",
        1.0,
        lambda engine: engine.run("create", "--name=made", "--network=none", IMAGE, "true"),
        lambda engine: engine.run("rm", "made"),
    ),
    Measurement("ps -a", 1.0, lambda engine: engine.run("ps", "-a")),
    Measurement("images", 1.0, lambda engine: engine.run("images")),
)
CONTAINERS = 30
"""In the store while `ps -a` is timed."""


def prepare(engine: Engine, archive: Path) -> None:
    engine.run("import", str(archive), IMAGE)
    engine.run("network", "create", "own")
    for _ in range(CONTAINERS):
        engine.run("create", "--network=none", IMAGE, "true")


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("-n", type=int, default=12)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root, to make an account")
    engines.enter_namespace()
    base = Path(tempfile.mkdtemp(prefix="tfb-", dir="/var/tmp"))
    base.chmod(0o711)
    subprocess.run(["useradd", "-M", "-s", "/bin/sh", USER], check=True)
    reached = []
    try:
        images.rootfs(base / "rootfs.tar")
        (base / "rootfs.tar").chmod(0o644)
        pair: list[Engine] = []
        for kind in (Tiffin, Podman):
            home = base / kind.name
            (home / "run").mkdir(parents=True, mode=0o700)
            pair.append(kind(home))
            subprocess.run(["chown", "-R", f"{USER}:{USER}", home], check=True)
            (home / "run").chmod(0o700)
            prepare(pair[-1], base / "rootfs.tar")
        print(f"{'milliseconds (median)':22} {'tiffin':>8} {'podman':>8} {'ratio':>7}   goal")
        for measurement in MEASUREMENTS:
            if not args.words or any(word in measurement.name for word in args.words):
                reached.append(report(measurement, measure(measurement, pair, args.n)))
    finally:
        subprocess.run(["pkill", "-KILL", "-U", USER], check=False)
        engines.unmount_below(base)
        shutil.rmtree(base)
        subprocess.run(["userdel", USER], check=False)
    return int(args.check and not all(reached))


if __name__ == "__main__":
    raise SystemExit(main())
