"""The same Containerfiles through `podman build` and `tiffin build`: the same settings, the same
files. Skipped where there is no podman: nothing here needs it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.building import FROM, Context
from support.cli import BUSYBOX, Tiffin

pytestmark = pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")

SETTINGS = (
    "Env", "Cmd", "Entrypoint", "ExposedPorts", "Volumes", "WorkingDir", "User", "StopSignal",
    "Labels",
)  # fmt: skip
"""What podman's inspect shows of an image."""

CASES = {
    "exec forms": 'CMD ["a", "b c"]\nENTRYPOINT ["/x", "y"]\nVOLUME ["/b", "/c"]',
    "shell forms": "ENTRYPOINT exec top -b\nCMD echo $HOME && true\nMAINTAINER somebody <s@x.org>",
    "an entrypoint clears the command": 'ENTRYPOINT ["/x"]\nHEALTHCHECK NONE',
    "values": "ENV A=1 B=\"two words\" C='$A' D=$A\nENV E the old way\nENV A=2 PATH=$PATH:/opt\n"
    "ARG V=1.2\nARG B\nENV F=${V:-x} G=${NONE:-d} H=${V:+yes} I=${NONE:+no} J=\\$V B2=$B\n"
    'LABEL a=b "c d"="e f" g=h\\ i\nLABEL a=2 l=${V}x\nEXPOSE 80 53/udp\nVOLUME /d /e\n'
    "USER www-data:users\nSTOPSIGNAL SIGINT\n"
    "HEALTHCHECK --interval=5m --timeout=3s --retries=4 CMD wget -q localhost",
    "files": "COPY a.txt d /c/\nCOPY d /d\nADD t.tgz /t/\nCOPY --chown=33:100 a.txt /own\n"
    "COPY --chmod=600 *.txt /g/\nWORKDIR /w\nWORKDIR ../w/y\nCOPY a.txt .\n"
    "RUN chmod 700 /c \\\n# comment\n  && rm -r /mnt\n"
    "USER www-data\nWORKDIR /var/www/app\nRUN touch /tmp/x",
}


class Podman:
    def __init__(self, base: Path) -> None:
        self.argv = ["podman", "--root", f"{base}/root", "--runroot", f"{base}/run",
                     "--cgroup-manager", "cgroupfs", "--runtime", shutil.which("runc") or "runc",
                     ]  # fmt: skip

    def __call__(self, *args: str | Path) -> str:
        done = subprocess.run([*self.argv, *map(str, args)], capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


@pytest.fixture(scope="module")
def podman(shared: Tiffin) -> Iterator[Podman]:
    base = Path(
        tempfile.mkdtemp(prefix="tfn-podman-")
    )  # it takes no longer a path for its run state
    command = Podman(base)
    shared("save", "--format=docker-archive", "-o", base / "busybox.tar", BUSYBOX)
    command("load", "-q", "-i", base / "busybox.tar")
    command("tag", "localhost/embedded:busybox", BUSYBOX)
    yield command
    command("rmi", "-a", "-f")
    subprocess.run(["umount", "-l", f"{base}/root/overlay"], check=False, capture_output=True)
    shutil.rmtree(base)


@pytest.fixture
def context(shared: Tiffin, tmp_path: Path) -> Iterator[Context]:
    made = Context(shared, tmp_path)
    made.write("a.txt", "a\n")
    made.write("d/e/deep", "deep\n", 0o600)
    made.write("d/x.sh", "x\n", 0o755)
    subprocess.run(["tar", "-C", tmp_path, "-czf", tmp_path / "t.tgz", "d"], check=True)
    yield made
    assert not made.left()


def settings(found: dict[str, Any]) -> dict[str, Any]:
    config = found["Config"]
    told = {key: config[key] for key in SETTINGS if config.get(key)}
    labels = told.get("Labels", {})
    labels.pop("io.buildah.version", None)
    if not labels:
        told.pop("Labels", None)
    check = found.get("HealthCheck") or found.get("Healthcheck") or config.get("Healthcheck")
    told["Healthcheck"] = {key: value for key, value in (check or {}).items() if value}
    told["Env"] = sorted(told.get("Env", ()))
    return told


def tree(root: str) -> list[str]:
    """Kind, mode, owner and contents of all that is in an image, but for where a runtime mounts
    things."""
    found = []
    for top, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = f"{top}/{name}"
            status = os.lstat(path)
            data = b""
            if stat.S_ISREG(status.st_mode) and status.st_size < 10000:
                data = Path(path).read_bytes()
            place = path.removeprefix(root)
            if not place.startswith(("/dev", "/proc", "/sys", "/run", "/etc/h", "/etc/resolv")):
                owner = f"{status.st_uid}:{status.st_gid}"
                found.append(f"{place} {stat.filemode(status.st_mode)} {owner} {data!r}")
    return sorted(found)


@pytest.mark.parametrize("case", CASES)
def test_settings_are_the_same(context: Context, podman: Podman, case: str) -> None:
    text = f"{FROM}{CASES[case]}\n"
    ours = context.image(text, "--format=docker", "--build-arg=B=given", "-t", "ours")
    flags = ("-q", "--format=docker", "--network=none", "--build-arg=B=given", "-t", "theirs")
    podman("build", *flags, context.directory)
    theirs = json.loads(podman("inspect", "theirs"))[0]
    assert settings(context.tiffin.inspect(ours)) == settings(theirs)
    if "MAINTAINER" in text:
        assert context.tiffin.inspect(ours)["Author"] == theirs["Author"]
    if "COPY" in text:
        here = context.tiffin("image", "mount", ours).word
        there = podman("image", "mount", "theirs").strip()
        try:
            assert tree(here) == tree(there)
        finally:
            context.tiffin("image", "umount", ours)
            podman("image", "umount", "theirs")


def test_what_is_printed_is_the_same(context: Context, podman: Podman) -> None:
    text = f"{FROM.strip()} AS one\nRUN echo said > /x\n{FROM}COPY --from=one /x /y\nRUN cat /y\n"
    context.dockerfile(text)

    def shape(out: str) -> list[str]:
        """Ids, which differ, as their length."""
        lines = []
        for line in out.splitlines():
            words = [
                f"<{len(word)}>" if len(word) in (11, 64) and set(word) <= set("0123456789abcdef")
                else word for word in line.split()
            ]  # fmt: skip
            lines.append(" ".join(words))
        return lines

    def both(*flags: str) -> None:
        ours = context.build(None, *flags).out
        theirs = podman("build", "--network=none", *flags, context.directory)
        assert shape(ours) == shape(theirs)

    both("--no-cache", "-t", "printed")
    both("-t", "printed")
    both("-q")


@pytest.mark.parametrize(
    ("text", "code"),
    [("RUN exit 41", 41), ("RUN nosuch", 127), ("COPY nope /x", 125), ("NOPE x", 125)],
)
def test_exit_codes_are_the_same(context: Context, podman: Podman, text: str, code: int) -> None:
    context.fails(f"{FROM}{text}\n", code=code)
    done = subprocess.run(
        [*podman.argv, "build", "--network=none", context.directory], capture_output=True
    )
    assert done.returncode == code
