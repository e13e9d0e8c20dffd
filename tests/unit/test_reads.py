"""The commands that only read, over a store that holds two containers and two images."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tiffin.cli import events, main
from tiffin.errors import NotFound, UserError
from tiffin.layout import Layout
from tiffin.store import log, sync

NOW = time.time_ns()
SECOND = 1_000_000_000
WEB, JOB = "aa" + "0f" * 31, "ab" + "0e" * 31
CONFIG = "1" * 64
OTHER = "2" * 64
LAYER = {"digest": "sha256:l", "diff_id": "sha256:d", "chain_id": "sha256:c", "size": 10}
BLOB = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2026-01-02T03:04:05Z",
    "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/srv"},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:d"]},
    "history": [
        {"created": "2026-01-02T03:04:05Z", "created_by": "COPY a b"},
        {"created_by": "CMD sh", "empty_layer": True, "comment": "c"},
    ],
}


def creation(name: str, directory: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": "bb",
        "image_id": f"sha256:{CONFIG}",
        "image_name": "localhost/bb:latest",
        "command": ["sh", "-c", "echo a very long command"],
        "options": {"image": "bb", "env": [["A", "b"]], "tty": True, **more.pop("options", {})},
        "storage_driver": "vfs",
        "runtime": "crun",
        "network": "bridge",
        "layers": ["sha256:c"],
        "directory": str(directory / name),
        **more,
    }


def image(**more: Any) -> dict[str, Any]:
    return {
        "manifest": "sha256:" + "3" * 64,
        "media_type": "m",
        "architecture": "amd64",
        "os": "linux",
        "created": NOW - 3600 * SECOND,
        "size": 1_997_895,
        "layers": [LAYER],
        **more,
    }


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("TIFFIN_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("TIFFIN_RUNROOT", str(tmp_path / "run"))
    return Layout.find()


@pytest.fixture
def store(layout: Layout, tmp_path: Path) -> Layout:
    sync.create(layout.database)
    published = [
        {"container_port": 80, "host_port": 8080},
        {"container_port": 53, "host_port": 5353, "protocol": "udp", "host_ip": "127.0.0.1"},
    ]
    options = {"mounts": [{"type": "bind", "target": "/d", "source": "/s", "options": ["ro"]}]}
    web = creation("web", tmp_path, ports=published, labels={"t": "w"}, options=options)
    attachment = {
        "network": {"id": "n1", "name": "bridge", "subnets": [{"gateway": "10.89.0.1"}]},
        "addresses": ["10.89.0.5/24"],
        "mac": "02:00:00:00:00:01",
        "interface": "eth0",
    }
    init = {"runtime": "crun", "bundle": str(tmp_path / "web"), "attachments": [attachment]}
    init |= {"netns": "/run/netns/web", "program": "/crun", "rootfs": "/r"}
    add(layout, (f"image/sha256:{CONFIG}", "image.added", image()), back=100)
    add(layout, (f"image/sha256:{CONFIG}", "image.tagged", {"name": "localhost/bb:latest"}))
    add(layout, (f"image/sha256:{OTHER}", "image.added", image(created=NOW - 60 * SECOND)))
    add(
        layout,
        (f"container/{WEB}", "container.creation_planned", web),
        (f"container/{WEB}", "container.created", {}),
        (f"container/{WEB}", "container.init_planned", init),
        (f"container/{WEB}", "container.initialized", {"pid": 7, "conmon_pid": 6, "spec": ""}),
        (f"container/{WEB}", "container.started", {"pid": 7}),
        back=30,
    )
    job = creation("job", tmp_path)
    add(
        layout,
        (f"container/{JOB}", "container.creation_planned", job),
        (f"container/{JOB}", "container.created", {}),
        (f"container/{JOB}", "container.exited", {"exit_code": 3}),
        back=20,
    )
    blobs = Path(layout.blobs) / "sha256"
    blobs.mkdir(parents=True)
    (blobs / CONFIG).write_text(json.dumps(BLOB))
    (tmp_path / "web").mkdir()
    os.makedirs(layout.container_run(WEB))  # else the machine was restarted
    return layout


def add(layout: Layout, *records: tuple[str, str, dict[str, Any]], back: int = 10) -> None:
    with contextlib.closing(sync.open_for_append(layout.database)) as connection:
        made = [log.Record(stream, type_, json.dumps(data)) for stream, type_, data in records]
        now = NOW - back * SECOND
        sync.run(connection, log.append(made, command="c1", actor='{"uid":0}', now=now))


def tiffin(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main.dispatch(list(words)) == code
    return capsys.readouterr().out


Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("words", ["ps -a", "images", "events", "events verify", "port -a"])
def test_without_a_store_lists_are_empty_and_nothing_is_made(
    words: str, layout: Layout, capsys: Capture
) -> None:
    assert tiffin(capsys, *words.split()).count("\n") <= 1
    assert not Path(layout.root).exists()


def test_ps_shows_what_runs_and_with_all_everything(store: Layout, capsys: Capture) -> None:
    lines = tiffin(capsys, "ps").splitlines()
    assert lines[0].split() == "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES".split()
    assert len(lines) == 2
    assert WEB[:12] in lines[1] and "Up " in lines[1] and lines[1].endswith("web")
    assert "0.0.0.0:8080->80/tcp" in lines[1] and "127.0.0.1:5353->53/udp" in lines[1]
    assert "Exited (3)" in tiffin(capsys, "ps", "-a")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("-a --filter name=^w", "web"),
        ("-a --filter id=ab", "job"),
        ("-a --filter label=t", "web"),
        ("-a --filter label=t=x", ""),
        ("--filter status=exited", "job"),
        ("--filter exited=3", "job"),
        ("--filter exited=0", ""),
        ("-a --filter ancestor=bb", "web job"),
        ("-a --filter since=web", "job"),
        ("-a --filter before=job", "web"),
        ("-a --filter network=bridge --filter name=job", "job"),
        ("-a --filter volume=/d", "web"),
        ("-a --filter volume=/s/", "web"),
        ("-a --filter volume=/x", ""),
        pytest.param(f"-a --filter until={NOW // SECOND - 25}", "web", id="until a number"),
        ("-a --filter until=1h", ""),
        ("--filter status=created --filter status=stopped", "job"),
        ("-l", "job"),
        ("-n 2", "web job"),
        ("-a --sort names", "job web"),
    ],
)
def test_ps_chooses(words: str, names: str, store: Layout, capsys: Capture) -> None:
    out = tiffin(capsys, "ps", *words.split(), "--format", "{{.Names}}")
    assert sorted(out.split()) == sorted(names.split())


def test_ps_knows_no_such_state(store: Layout) -> None:
    with pytest.raises(UserError, match=r"status=hungry: .*running"):
        main.dispatch(["ps", "--filter", "status=hungry"])


def test_ps_ids_json_and_templates(store: Layout, capsys: Capture) -> None:
    assert tiffin(capsys, "ps", "-q", "--no-trunc").split() == [WEB]
    found = json.loads(tiffin(capsys, "ps", "--format", "json"))
    assert found[0]["Id"] == WEB and found[0]["Names"] == ["web"] and found[0]["Pid"] == 7
    text = tiffin(capsys, "ps", "--format", "table {{.ID}}\\t{{.Status}}")
    assert text.startswith("CONTAINER ID")
    with pytest.raises(UserError, match="no field Naem"):
        main.dispatch(["ps", "--format", "{{.Naem}}"])


def test_images(store: Layout, capsys: Capture) -> None:
    lines = tiffin(capsys, "images").splitlines()
    assert lines[0].split() == "REPOSITORY TAG IMAGE ID CREATED SIZE".split()
    assert lines[1].split()[:3] == ["<none>", "<none>", OTHER[:12]]
    assert lines[2].split()[:3] == ["localhost/bb", "latest", CONFIG[:12]]
    assert lines[2].endswith("2 MB")
    assert tiffin(capsys, "images", "-q", "bb").split() == [CONFIG[:12]]
    assert tiffin(capsys, "images", "-q", "--filter", "dangling=true").split() == [OTHER[:12]]
    assert tiffin(capsys, "image", "ls", "-q", "no*").split() == []
    found = json.loads(tiffin(capsys, "images", "--format", "json"))
    assert found[1]["Names"] == ["localhost/bb:latest"] and found[1]["Containers"] == 2
    assert tiffin(capsys, "images", "--format", "{{.Repository}}:{{.Tag}}", "bb") == (
        "localhost/bb:latest\n"
    )


def test_inspect_of_a_container(store: Layout, capsys: Capture) -> None:
    (found,) = json.loads(tiffin(capsys, "inspect", "web"))
    assert found["Id"] == WEB and found["Name"] == "web" and found["Path"] == "sh"
    assert found["State"]["Status"] == "running" and found["State"]["Pid"] == 7
    assert found["NetworkSettings"]["IPAddress"] == "10.89.0.5"
    assert found["NetworkSettings"]["Gateway"] == "10.89.0.1"
    assert found["NetworkSettings"]["Ports"]["80/tcp"] == [{"HostIp": "", "HostPort": "8080"}]
    assert found["NetworkSettings"]["Networks"]["bridge"]["NetworkID"] == "n1"
    assert found["NetworkSettings"]["SandboxKey"] == "/run/netns/web"
    assert found["Config"]["Env"] == ["PATH=/bin", "A=b"]
    assert found["Mounts"][0]["RW"] is False
    assert found["HostConfig"]["Binds"] == ["/s:/d:ro"]
    template = "{{.State.ExitCode}} {{.State.Status}} {{.HostConfig.AutoRemove}}"
    assert tiffin(capsys, "inspect", "-f", template, "job") == "3 exited false\n"
    assert tiffin(capsys, "container", "inspect", "-f", "{{.Name}}", "aa") == "web\n"


def test_inspect_of_an_image(store: Layout, capsys: Capture) -> None:
    (found,) = json.loads(tiffin(capsys, "inspect", "bb"))
    assert found["Id"] == CONFIG and found["RepoTags"] == ["localhost/bb:latest"]
    assert found["Config"]["Cmd"] == ["sh"]
    assert tiffin(capsys, "image", "inspect", "-f", "{{.Architecture}}", CONFIG[:8]) == "amd64\n"


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ("inspect web", ".Nonsense"),
        ("inspect web", ".State.Nonsense"),
        ("inspect web", ".HostConfig.LogConfig.Nonsense"),
        ("inspect web", ".NetworkSettings.Networks.bridge.Nonsense"),
        ("image inspect bb", ".RootFS.Nonsense"),
    ],
)
def test_inspect_knows_no_field_of_that_name(args: str, field: str, store: Layout) -> None:
    with pytest.raises(UserError, match="there is no field Nonsense"):
        main.dispatch([*args.split(), "--format", f"{{{{{field}}}}}"])


@pytest.mark.parametrize(
    ("args", "template", "said"),
    [
        ("inspect web", "{{.Config.Labels.none}}", "<no value>"),
        ("inspect web", "{{.NetworkSettings.Networks.none}}", "<no value>"),
        ("inspect web", '{{index .Config.Labels "t"}} {{.Config.Labels.t}}', "w w"),
        ("image inspect bb", "{{.Config.Entrypoint}}{{.Config.User}}", "[]"),
        ("image inspect bb", "{{len .Config.Labels}} {{.Config.WorkingDir}}", "0 /srv"),
    ],
)
def test_inspect_maps_and_what_an_image_leaves_out(
    args: str, template: str, said: str, store: Layout, capsys: Capture
) -> None:
    assert tiffin(capsys, *args.split(), "--format", template) == f"{said}\n"


def test_inspect_shows_limits_as_they_are_set(
    layout: Layout, tmp_path: Path, capsys: Capture
) -> None:
    sync.create(layout.database)
    asked = {"resources": {"memory": 10 << 20, "cpus": 0.5}, "cap_add": ["net_admin", "ALL"]}
    made = creation("web", tmp_path, options=asked)
    add(layout, (f"container/{WEB}", "container.creation_planned", made))
    limits = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} "
    limits += "{{.HostConfig.CpuQuota}} {{.HostConfig.CpuPeriod}}"
    out = tiffin(capsys, "inspect", "-f", limits, "web")
    assert out == f"{10 << 20} {20 << 20} 500000000 50000 100000\n"
    assert tiffin(capsys, "inspect", "-f", "{{.HostConfig.CapAdd}}", "web") == (
        "[CAP_NET_ADMIN ALL]\n"
    )


def test_inspect_goes_on_after_a_name_that_is_not_there(store: Layout, capsys: Capture) -> None:
    assert main.dispatch(["inspect", "gone", "web"]) == 125
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 1
    assert err == "Error: no such container or image: gone\n"
    with pytest.raises(NotFound):
        main.dispatch(["image", "inspect", "-f", "{{.Id}}", "web"])


def test_history(store: Layout, capsys: Capture) -> None:
    lines = tiffin(capsys, "history", "bb").splitlines()
    assert lines[0].split() == "ID CREATED CREATED BY SIZE COMMENT".split()
    assert lines[1].startswith(CONFIG[:12]) and "CMD sh" in lines[1]
    assert "<missing>" in lines[2] and "COPY a b" in lines[2] and "10 B" in lines[2]


def test_port(store: Layout, capsys: Capture) -> None:
    assert tiffin(capsys, "port", "web") == "80/tcp -> 0.0.0.0:8080\n53/udp -> 127.0.0.1:5353\n"
    assert tiffin(capsys, "port", "web", "53/udp") == "127.0.0.1:5353\n"
    with pytest.raises(NotFound, match="publishes no port 81/tcp"):
        main.dispatch(["port", "web", "81"])


def test_logs(store: Layout, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    stamp = "2026-11-25T07:41:08.000000001+00:00"
    text = (
        f"{stamp} stdout F one\n{stamp} stderr F two\n{stamp} stdout P thr\n{stamp} stdout F ee\n"
    )
    (tmp_path / "web" / "ctr.log").write_text(text)
    command = (sys.executable, "-m", "tiffin.cli.main", "logs")
    done = subprocess.run((*command, "web"), capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"one\nthree\n", b"two\n")
    done = subprocess.run((*command, "-t", "--tail=1", "web"), capture_output=True, check=True)
    assert done.stdout == b"2026-11-25T07:41:08.000000001Z three\n"


def test_events_as_text_json_and_templates(store: Layout, capsys: Capture) -> None:
    lines = [json.loads(line) for line in tiffin(capsys, "events", "--format=json").splitlines()]
    assert [event["seq"] for event in lines] == list(range(1, 12))
    assert list(lines[0]) == (
        "seq stream version type time timeNano command actor data prev hash".split()
    )
    assert lines[1]["prev"] == lines[0]["hash"]
    assert "container.started" in tiffin(capsys, "events")
    out = tiffin(capsys, "events", "--after", "9", "--format", "{{.seq}}:{{.type}}")
    assert out == "10:container.created\n11:container.exited\n"


@pytest.mark.parametrize("words", ["container=web", "label=t=w"])
def test_events_of_a_container_are_those_of_its_execs_too(
    words: str, store: Layout, capsys: Capture
) -> None:
    planned = {"container": WEB, "command": ["true"], "directory": "/e"}
    add(store, ("exec/e1", "exec.planned", planned), ("exec/e1", "exec.started", {"pid": 9}))
    out = tiffin(capsys, "events", "--filter", words, "--after=8", "--format={{.type}}")
    assert out.split() == ["exec.planned", "exec.started"]
    out = tiffin(capsys, "events", "--filter", words, "--after=12", "--format={{.type}}")
    assert out.split() == ["exec.started"]


def test_events_know_no_such_field(store: Layout, capsys: Capture) -> None:
    with pytest.raises(UserError, match="there is no field Typ; did you mean Type"):
        main.dispatch(["events", "--format", "{{.Typ}}"])
    assert "<no value>" in tiffin(capsys, "events", "--format", "{{.data.name}}")


@pytest.mark.parametrize(
    ("words", "seqs"),
    [
        ("--filter container=job", "9 10 11"),
        ("--filter container=ab", "9 10 11"),
        ("--filter container=web --filter event=started", "8"),
        ("--filter type=image", "1 2 3"),
        ("--filter type=container.exited", "11"),
        ("--filter label=t=w", "4 5 6 7 8"),
        ("--filter label=t --after 6", "7 8"),
        ("--filter label=t=x", ""),
        ("--filter image=bb", "2 4 9"),
        ("--filter image=localhost/bb:latest", "2 4 9"),
        ("--filter image=b", ""),
        ("--filter command=c2", ""),
        ("--filter network=bridge", "4 9"),
        pytest.param(f"--since {NOW // SECOND - 25}", "2 3 9 10 11", id="since a number"),
        pytest.param(f"--until {NOW // SECOND - 90}", "1", id="until a number"),
    ],
)
def test_events_chosen(words: str, seqs: str, store: Layout, capsys: Capture) -> None:
    out = tiffin(capsys, "events", *words.split(), "--format", "{{.seq}}")
    assert out.split() == seqs.split()


def test_events_follow_gives_what_is_there_and_what_comes(layout: Layout) -> None:
    found: list[tuple[Any, ...]] = []
    seen = threading.Semaphore(0)

    def listen() -> None:
        for row in events.follow(layout, 0, 0, events.FOREVER):
            found.append(row)
            seen.release()
            if len(found) == 3:
                return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    sync.create(layout.database)
    for number in range(3):
        config = {"config": {"name": f"n{number}", "driver": "x"}}
        add(layout, (f"network/{number}", "network.created", config))
        assert seen.acquire(timeout=20)
    assert [row[0] for row in found] == [1, 2, 3]


def test_verify_names_the_altered_event(store: Layout, capsys: Capture) -> None:
    assert tiffin(capsys, "events", "verify") == "OK: 11 events\n"
    with contextlib.closing(sync.open_for_append(store.database)) as connection:
        connection.execute("UPDATE events SET data='{}' WHERE seq=4")
    assert tiffin(capsys, "events", "verify", code=1) == "event 4 was altered\n"


def test_reads_import_nothing_of_the_engine(store: Layout) -> None:
    code = (
        "import sys; from tiffin.cli import main; main.dispatch(['ps', '-a']); "
        "main.dispatch(['images']); heavy = {'trio', 'pluggy', 'msgspec', 'asyncio', 'argparse', "
        "'inspect', 'dataclasses', 'ssl', 'tiffin.engine'}; print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["ps", "--nope"], 125, "Error: unknown flag --nope"),
        (["inspect", "evil\x1b[31m"], 125, "Error: no such container or image: evil\\x1b[31m"),
        (["ps", "--help"], 0, ""),
        (["--version"], 0, ""),
    ],
)
def test_as_a_process(words: list[str], code: int, error: str, store: Layout) -> None:
    command = [sys.executable, "-m", "tiffin.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr.startswith(error) and done.stderr.count("\n") == bool(error)


def test_a_broken_pipe_is_quiet(store: Layout) -> None:
    command = f"{sys.executable} -m tiffin.cli.main events --format json"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | true"], capture_output=True, text=True
    )
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_a_store_that_is_no_database_is_one_line(layout: Layout, tmp_path: Path) -> None:
    Path(layout.root).mkdir(parents=True)
    Path(layout.database).write_text("x" * 5000)
    command = [sys.executable, "-m", "tiffin.cli.main", "ps", "-a"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 125
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
