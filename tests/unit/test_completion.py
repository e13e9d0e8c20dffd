"""The tab key: what `tiffin __complete` answers, and the three shells' scripts that ask it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiffin.cli import commands, complete, completion, main
from tiffin.layout import Layout
from tiffin.store import log, sync

WEB, JOB = "aa" + "0f" * 31, "ab" + "0e" * 31
IMAGE = "sha256:" + "1" * 64
PROGRAM = Path(sys.executable).parent / "tiffin"


def creation(name: str) -> dict[str, object]:
    return {
        "name": name,
        "image": "bb",
        "image_id": IMAGE,
        "image_name": "localhost/bb:latest",
        "command": ["sh"],
        "options": {"image": "bb"},
        "storage_driver": "vfs",
        "runtime": "crun",
        "network": "bridge",
        "layers": ["sha256:c"],
        "directory": f"/x/{name}",
    }


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(str(tmp_path_factory.mktemp("complete") / "root"), "/run/nowhere")
    sync.create(layout.database)
    start = {"runtime": "crun", "bundle": "/x", "attachments": [], "netns": "", "program": "/crun"}
    told = [
        (f"container/{WEB}", "container.creation_planned", creation("web")),
        (f"container/{WEB}", "container.created", {}),
        (f"container/{WEB}", "container.init_planned", start | {"rootfs": "/r"}),
        (f"container/{WEB}", "container.initialized", {"pid": 7, "conmon_pid": 6, "spec": ""}),
        (f"container/{WEB}", "container.started", {"pid": 7}),
        (f"container/{JOB}", "container.creation_planned", creation("job")),
        (f"container/{JOB}", "container.created", {}),
        (f"image/{IMAGE}", "image.added", image()),
        (f"image/{IMAGE}", "image.tagged", {"name": "localhost/app:latest"}),
        ("volume/data", "volume.created", {"path": "/x/data"}),
        ("volume/dates", "volume.created", {"path": "/x/dates"}),
        ("secret/5ec", "secret.creation_planned", {"name": "key"}),
        ("secret/5ec", "secret.created", {}),
        ("pod/b0d", "pod.created", POD),
    ]
    with contextlib.closing(sync.open_for_append(layout.database)) as connection:
        records = [log.Record(stream, kind, json.dumps(data)) for stream, kind, data in told]
        sync.run(connection, log.append(records, command="c", actor='{"uid":0}', now=1))
    return layout


POD = {"name": "lunch", "share": [], "network": "", "options": {}, "directory": "/x/pod"}


def image() -> dict[str, object]:
    layer = {"digest": "sha256:l", "diff_id": "sha256:d", "chain_id": "sha256:c", "size": 10}
    return {
        "manifest": "sha256:" + "3" * 64,
        "media_type": "m",
        "architecture": "amd64",
        "os": "linux",
        "created": 1,
        "size": 1,
        "layers": [layer],
    }


def words(layout: Layout, *typed: str) -> list[str]:
    found, _ = complete.answer([f"--root={layout.root}", *typed], Layout.find)
    return [word for word, _ in found]


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("ru", ["run"]),
        ("vol", ["volume"]),
        ("volume ins", ["inspect"]),
        ("container ls --no-t", ["--no-trunc"]),
        ("events con", ["consumers"]),
        ("--storage-d", ["--storage-driver"]),
        ("run --pull n", ["never", "newer"]),
        ("run --pull=a", ["--pull=always"]),
        ("run --network=ho", ["--network=host"]),
        ("run --cap-add NET_A", ["NET_ADMIN"]),
        ("kill -s HU", ["HUP"]),
        ("kill -sHU", []),
        ("stop ", ["web"]),
        ("start ", ["job"]),
        ("rm ", ["job", "web"]),
        ("rm web ", ["job"]),
        ("rm ab", ["ab0e0e0e0e0e"]),
        ("rmi app", ["app:latest", "app"]),
        ("rmi localhost/a", ["localhost/app:latest"]),
        ("run -it ap", ["app:latest", "app"]),
        ("run -it app --pu", []),
        ("commit web ap", ["app:latest", "app"]),
        ("commit web app ", []),
        ("volume rm da", ["data", "dates"]),
        ("run -v dat", ["data:", "dates:"]),
        ("run --volumes-from we", ["web"]),
        ("cp we", ["web:"]),
        ("ps --filter st", ["status="]),
        ("ps --sort na", ["names"]),
        ("ps --format ", ["json"]),
        ("run --secret ", ["key"]),
        ("secret rm k", ["key"]),
        ("run --pod lu", ["lunch"]),
        ("pod stop ", ["lunch"]),
        ("inspect lu", ["lunch"]),
        ("inspect --type vol", ["volume"]),
        ("inspect da", ["data", "dates"]),
        ("run --requires we", ["web"]),
        ("run --log-driver jo", ["journald"]),
        ("wait --condition he", ["healthy"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("nosuch ", []),
        ("image nosuch ", []),
    ],
)
def test_what_may_stand_there(layout: Layout, typed: str, wanted: list[str]) -> None:
    assert sorted(words(layout, *typed.split(" "))) == sorted(wanted)


@pytest.mark.parametrize(
    ("typed", "more"),
    [
        ("load -i ", ":files"),
        ("import ", ":files"),
        ("cp ", ":files"),
        ("--root ", ":dirs"),
        ("run -v ", ":files"),
        ("ps ", ":none"),
        ("rm ", ":none"),
    ],
)
def test_when_the_shell_adds_files_of_its_own(typed: str, more: str) -> None:
    assert complete.answer(typed.split(" "), Layout.find)[1] == more


def test_every_command_answers_at_each_place_and_knows_its_flags(layout: Layout) -> None:
    for name in commands.COMMANDS:
        command = main.load(name)
        flags = words(layout, *name.split(), "--")
        assert {f"--{flag.name}" for flag in command.flags} <= set(flags), name
        for flag in command.flags:
            words(layout, *name.split(), f"--{flag.name}", "")
        for count in range(4):
            words(layout, *name.split(), *["x"] * count, "")


@pytest.mark.parametrize("damaged", [b"", b"no database", None])
def test_without_a_store_that_can_be_read_there_are_no_names(
    tmp_path: Path, damaged: bytes | None
) -> None:
    root = Layout(str(tmp_path), str(tmp_path))
    if damaged is not None:
        Path(root.database).write_bytes(damaged)
    assert words(root, "rm", "") == []
    assert {path.name for path in tmp_path.iterdir()} <= {"tiffin.db"}


def asked(layout: Layout, tmp_path: Path) -> dict[str, str]:
    """An environment in which `tiffin` is found, with that store."""
    folder = f"{PROGRAM.parent}:{os.environ['PATH']}"
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    return os.environ | home | {"PATH": folder, "TIFFIN_ROOT": layout.root}


BASH = """
source "$1"
COMP_LINE=$2 COMP_POINT=${#2}
compopt() { return 0; }
_tiffin
printf '%s\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { :; }
_describe() { print -rl -- "${(@P)2}"; }
_files() { print files; }
source $1
words=("${(@s: :)2}") CURRENT=${#${(@s: :)2}}
_tiffin
"""
FISH = 'source $argv[1]; complete -C "$argv[2]"'
RUN = {"bash": ["-c", BASH, "-"], "zsh": ["-f", "-c", ZSH, "-"], "fish": ["-c", FISH]}


def test_bash_adds_the_files_beside(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "rootfs.tar").touch()
    (tmp_path / "script").write_text(completion.BASH)
    done = subprocess.run(
        ["bash", *RUN["bash"], "./script", "tiffin import root"],
        env=asked(layout, tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("rootfs.tar\n", "")


@pytest.mark.parametrize("shell", RUN)
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("tiffin volume rm dat", ["data", "dates"]),
        ("tiffin run --pull ne", ["never", "newer"]),
        ("tiffin stop w", ["web"]),
        ("tiffin rmi app:l", ["app:latest"]),
    ],
)
def test_the_shells_ask(
    layout: Layout, tmp_path: Path, shell: str, line: str, wanted: list[str]
) -> None:
    script = tmp_path / "script"
    script.write_text(completion.SHELLS[shell])
    done = subprocess.run(
        [shell, *RUN[shell], str(script), line],
        env=asked(layout, tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    separator = {"bash": "\t", "zsh": ":", "fish": "\t"}[shell]
    lines = [text.replace("\\:", ";") for text in done.stdout.splitlines()]
    found = [text.partition(separator)[0].replace(";", ":") for text in lines]
    if shell == "bash":  # what stands before a colon is a word of its own there
        wanted = [word.rpartition(":")[2] for word in wanted]
    assert found == wanted
