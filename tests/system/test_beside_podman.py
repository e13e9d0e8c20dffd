"""The same command line through tiffin and the installed podman: exit code, shape of the output and
the state afterwards. What differs on purpose is marked in the table, with the reason."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from support.beside import STANDING, Engine, Pair, standing


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    if shutil.which("podman") is None:  # what ours is compared with; nothing of ours needs it
        pytest.skip("podman is not installed: apt install podman")
    with standing() as engines:
        yield engines


class Case(NamedTuple):
    line: str
    check: str = "same"
    """`same`: stdout is the same but for ids and times; `table`: heading and number of lines;
    `keys`: podman's JSON keys are ours as well; `code`: only whether there is output."""
    differs: str = ""
    """Why the exit code differs, on purpose; then the state may as well."""
    prints: str = ""
    """Why the output differs, on purpose."""
    lacks: frozenset[str] = frozenset()
    """Keys of podman's that have no meaning here."""
    after: tuple[str, ...] = ()
    """Lines that put everything back."""


def case(
    line: str,
    check: str = "same",
    *,
    differs: str = "",
    prints: str = "",
    lacks: str = "",
    after: str = "",
) -> Any:
    undo = tuple(part.strip() for part in after.split(" ;; ") if part.strip())
    return pytest.param(Case(line, check, differs, prints, frozenset(lacks.split()), undo), id=line)


OF_PODMAN = """
Config.HealthcheckOnFailureAction Config.Passwd Config.Timeout Config.Umask
ImageDigest State.CheckpointedAt State.Health State.RestoredAt
"""
"""Of checkpoints, systemd's notification and health: what is not there, or not by that name."""

CASES = [
    # -- running
    case("run --rm --network none same echo hi", "same"),
    case("run --rm --network none same sh -c 'exit 7'"),
    case("run --rm --network none same nosuchprogram", "code"),
    case("run --rm --network none same /etc", "code"),
    case("run --rm --network none -e A=1 -e B=2 -w /tmp same sh -c 'echo $A$B $PWD'"),
    case("run --rm --network none -u 12:34 same id -u"),
    case("run --rm --network none --entrypoint echo same a b"),
    case("run --rm --network none -v store:/s same sh -c 'ls /s; touch /s/x'"),
    case("run --rm --network none --read-only same touch /x", "code"),
    case("run --rm --network none --hostname box same sh -c 'echo $HOSTNAME'"),
    case("run -d --network none --name bg same sleep 1000", after="rm -f -t 0 bg"),
    case("run --network none --name runs same true", "code"),
    case("run --nosuchflag same", "code"),
    case("run --rm --pull never --network none nosuch true", "code"),
    case("run", "code"),
    case("create --name other --network none same true", after="rm other"),
    case("create --name made --network none same true", "code"),
    case("create --network none -v relative:path same", "code"),
    case("create --memory lots same", "code"),
    # -- life
    case("start made", after="wait made"),
    case("start nosuch", "code"),
    case("start runs", prints="docker's: the name, also of one that runs already"),
    case("stop -t 0 runs", after="start runs"),
    case("stop made ended"),
    case("stop nosuch", "code"),
    case("kill made", "code"),
    case("kill -s NOSUCH runs", "code"),
    case("pause runs", after="unpause runs"),
    case("pause made", "code"),
    case("unpause runs", "code"),
    case("restart -t 0 runs"),
    case("wait ended"),
    case("wait nosuch", "code"),
    case("rename made renamed", after="rename renamed made"),
    case("rename made runs", "code"),
    case("exec runs echo hi"),
    case("exec runs sh -c 'exit 9'"),
    case("exec runs nosuchprogram", "code"),
    case("exec made true", "code", differs="the engine's own failures are 125; podman: 255"),
    case("exec nosuch true", "code"),
    case("logs ended"),
    case("logs --tail 1 ended"),
    case("logs nosuch", "code"),
    case("top runs pid,comm"),
    case("top made", "code"),
    case("port runs"),
    case("diff made"),
    case("rm runs", "code"),
    case("rm nosuch", "code"),
    case("rm -f nosuch", "code"),
    case("rm", "code"),
    case("container exists runs"),
    case("container exists nosuch"),
    case("attach made", "code"),
    # -- lists
    case("ps", "table"),
    case("ps -a", "table"),
    case("ps -a --noheading --format '{{.Names}} {{.Status}}'", "table"),
    case("ps -a --format '{{.Names}}|{{.Image}}' --sort names"),
    case("ps --format '{{.State}}'", prints="docker's: running; podman 4.3 gives the status"),
    case("ps -aq", "table"),
    case("ps -a --filter label=meal=lunch --format '{{.Names}}'"),
    case("ps -a --filter status=created --format '{{.Names}}'"),
    case("ps -a --filter exited=3 --format '{{.Names}}'"),
    case("ps --filter nosuch=x", "code"),
    case("ps -a --format json", "keys", lacks="Namespaces"),
    case("ps -a --format '{{.NoSuch}}'", "code"),
    case(
        "ps -q --format json",
        differs="docker takes one, podman the other",
        prints="docker takes one, podman the other",
    ),
    case("images", "table"),
    case("images -q", "table"),
    case("images --format '{{.Repository}}:{{.Tag}}'"),
    case("images --format json", "keys", lacks=""),
    case("images nosuch", "table"),
    case("volume ls", "table"),
    case("volume ls --format '{{.Name}} {{.Driver}}'"),
    case("volume ls -q --filter label=a=b"),
    case("volume inspect store", "keys", lacks=""),
    case("volume inspect nosuch", "code"),
    case("volume create store", "code"),
    case(
        "volume create --ignore store",
        differs="podman has it since 4.4",
        prints="podman has it since 4.4",
    ),
    case("volume exists store"),
    case("volume exists nosuch"),
    case("volume rm nosuch", "code"),
    case("volume rm -f nosuch", "code"),
    case("volume create extra", after="volume rm extra"),
    case("volume create -o type=tmpfs mem", after="volume rm mem"),
    case("volume create --driver nosuch x", "code"),
    case("network ls --format '{{.Name}} {{.Driver}}' --filter name=podman-nothing"),
    case("network inspect nosuch", "code"),
    case("network exists nosuch"),
    case("network rm nosuch", "code"),
    case("pod ps", "table"),
    case("pod ps -q"),
    case("pod exists nosuch"),
    case("pod inspect nosuch", "code"),
    case("pod rm nosuch", "code"),
    case("pod start nosuch", "code"),
    case("pod create --infra=false --name lunch", after="pod rm lunch"),
    # -- images
    case("tag same other:1", after="rmi other:1"),
    case("tag nosuch other:1", "code"),
    case("untag nosuch", "code"),
    case("rmi nosuch", "code"),
    case("rmi -f nosuch", "code"),
    case("rmi same", "code"),
    case("image exists same"),
    case("image exists nosuch"),
    case("image inspect nosuch", "code"),
    case("image inspect --format '{{.Os}} {{.Config.Cmd}}' same"),
    case("history --format '{{.CreatedBy}}' nosuch", "code"),
    case("commit -q made committed", after="rmi committed"),
    case("commit nosuch x", "code"),
    case("save nosuch -o /dev/null", "code"),
    case("load -i /nosuch", "code"),
    case("import /nosuch", "code"),
    case("push nosuch", "code"),
    case("manifest create many:1", after="manifest rm many:1"),
    case("manifest exists nosuch"),
    case("manifest rm nosuch", "code"),
    # -- inspect
    case("inspect runs", "keys", lacks=OF_PODMAN),
    case("inspect --format '{{.Name}} {{.State.Status}} {{.State.ExitCode}}' ended"),
    case("inspect --format '{{.Config.Cmd}} {{.HostConfig.NetworkMode}}' runs"),
    case("inspect --format '{{.NoSuch}}' runs", "code"),
    case("inspect nosuch", "code"),
    case("inspect --type image runs", "code"),
    # -- files
    case("cp ended:/bin/nosuch .", "code"),
    case("cp nosuch:/x .", "code"),
    case("cp rootfs.tar made:/tmp/"),
    case("cp rootfs.tar made:/no/such/place/", "code"),
    case("export nosuch", "code"),
    case("mount nosuch", "code"),
    # -- what create refuses
    *(
        case(f"create --name tmp --network none {flag} same true", "code", after="rm -f tmp")
        for flag in (
            "--restart sometimes",
            "--rm --restart always",
            "-p 99999:80",
            "-p x",
            "--cap-add NOSUCH",
            "-e =x",
            "--env-file /nosuch",
            "--ulimit nofile=5:1",
            "--user nosuch",
            "-v /nosuch:/x",
            "--mount type=bind,src=/,dst=rel",
            "--mount type=cow,dst=/x",
            "--network nosuch",
            "--device /dev/nosuch",
            "--hostname x.y",
            "--tmpfs rel",
            "--log-driver nosuch",
            "--pid nosuch",
            "--stop-signal NOSUCH",
            "--add-host nonsense",
            "--dns nonsense",
            "--security-opt nosuch",
            "--sysctl x",
            "--cpus many",
            "--pids-limit x",
            "--pull sometimes",
            "--label x=y",
            "--annotation x",
            "--memory 64m --memory-swap 32m",
            "--pod nosuch",
            "--volumes-from nosuch",
            "--entrypoint ''",
            "--shm-size 1m",
            "--group-add 5",
            "--init",
            "--privileged",
            "--read-only",
            "--mount type=tmpfs,dst=/t,tmpfs-size=1m,U=true",
            "--mount type=image,src=same,dst=/i",
            "--ipc nosuch",
            "--uts nosuch",
            "--cpuset-cpus x",
        )
    ),
    *(
        case(
            f"create --name tmp --network none {flag} same true",
            differs=why,
            prints=why,
            after="rm -f tmp",
        )
        for flag, why in (
            ("--workdir rel", "docker refuses it as well"),
            ("-v store:/a -v store:/a", "docker refuses it as well"),
            ("--attach nosuch", "podman says so only when it starts"),
        )
    ),
    # -- more of running
    case(
        "run --rm --network none same sh -c 'busybox grep CapEff /proc/self/status'",
        prints="without NET_RAW, MKNOD and AUDIT_WRITE, as later versions of podman",
    ),
    case(
        "run --rm --network none --cap-drop all same sh -c 'busybox grep CapEff /proc/self/status'"
    ),
    case("run --rm --network none --tmpfs /t:size=1m,mode=700 same sh -c 'busybox stat -c %a /t'"),
    case("run --rm --network none -v store:/s:ro same touch /s/x", "code"),
    case(
        "run --rm --network none -v /etc/hostname:/h:ro same sh -c 'ls -l /h | busybox cut -c1-4'"
    ),
    case("run --rm --network none --volumes-from runs same true"),
    case("run --rm --network none --privileged same sh -c 'busybox grep CapEff /proc/self/status'"),
    case("run --rm --network none --env-file rootfs.tar.env same sh -c 'echo $FROM_FILE'"),
    case("run --rm --network none -l a=b same true"),
    case("run --rm --network none --pod nosuch same true", "code"),
    case("run --network none --name gone --rm same false"),
    case("exec -w /tmp -e A=1 runs sh -c 'echo $A $PWD'"),
    case("exec -u 5 runs id -u"),
    case("exec -w /nosuch runs true", "code"),
    case("exec runs", differs="the engine's own failures are 125; podman: 255"),
    # -- more of life
    case("kill runs", after="wait runs ;; start runs"),
    case("stop -a -t 0", "code", after="start runs"),
    case("rm ended", after=STANDING[1]),
    case("rm -f -t 0 runs nosuch", prints="docker's: what was removed", after=STANDING[2]),
    case("rm made runs", "code", after="create --name made --network none same echo made"),
    case("container prune -f --filter label=none"),
    case("rename nosuch x", "code"),
    case("update nosuch", "code"),
    case("stats --no-stream --format '{{.Name}}' runs"),
    case("stats --no-stream nosuch", "code"),
    case("port nosuch", "code"),
    case("port runs 80", differs="docker: there is no such port; podman: nothing"),
    case("diff nosuch", "code"),
    case("history --format '{{.Comment}}' same", "table"),
    case("init made", after="stop made"),
    # -- more lists
    case("ps -l -q", "table"),
    case("ps -n 2 -q", "table"),
    case("ps -a --no-trunc --format '{{.Command}}' --filter name=runs"),
    case("ps -a --filter name=^r --format '{{.Names}}'"),
    case("ps -a --filter ancestor=localhost/same:latest --format '{{.Names}}' --sort names"),
    case("ps -a --filter ancestor=same -q", prints="docker's: a short name is a name"),
    case("ps -a --filter status=nosuch", "code"),
    case("ps -a --sort nosuch", "code"),
    case("ps -a --filter volume=store -q"),
    case("ps -a --format '{{.Names}} {{.Labels.meal}}' --filter label=meal", "code"),
    case("ps -a --format 'table {{.Names}}' --sort names"),
    case("ps --pod", "table"),
    case("ps -a -s", "table"),
    case("images -a -q", "table"),
    case("images --filter dangling=true -q"),
    case("images --filter reference=sa* -q", "table"),
    case("images --filter nosuch=x", "code"),
    case("images --digests", "table"),
    case("images --no-trunc -q", "table"),
    case("volume ls --filter dangling=false -q"),
    case("volume ls --filter nosuch=x", "code"),
    case("volume ls --format json", "keys"),
    case("volume ls -q --filter name=sto"),
    case("logs -t ended", "table"),
    case("logs --since 1h --until 1s runs"),
    case("logs --tail x ended", "code"),
    # -- more of images and volumes
    case("tag same BadName", "code"),
    case("save same -o saved.tar"),
    case("save --format nosuch same -o saved", "code"),
    case("load -q -i saved.tar"),
    case("load -i rootfs.tar", "code"),
    case("import -q rootfs.tar imported:1", after="rmi imported:1"),
    case("export -o out.tar made"),
    case("cp made:/bin/busybox copied"),
    case("cp made:/bin/. copies"),
    case("image prune -f"),
    case("image rm nosuch", "code"),
    case("volume export nosuch -o out.tar", "code"),
    case("volume export store -o out.tar"),
    case("volume import nosuch out.tar", "code"),
    case("volume import store out.tar"),
    case("volume mount store", "code", after="volume unmount store"),
    case("volume rm", "code"),
    case("volume create 'a b'", "code"),
    case("volume prune -f --filter label=none"),
    case("search nosuchhost.invalid/x", "code"),
    case("manifest inspect nosuchhost.invalid/x", "code"),
    case("system df", "table"),
    case("system df --format '{{.Type}} {{.Total}}'"),
    case("version --format '{{.Client.Os}}'", "code"),
    case("stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemPerc}}' made"),
    case("stats --no-stream made", "table"),
    case("kill -s '' runs", "code"),
    case("wait --interval x ended", "code"),
    case("wait --interval 1s ended"),
    case("save --format docker-dir -o saved-dir same"),
    case("commit -q --format docker made committed:1", "table", after="rmi committed:1"),
    case("commit -q --squash made committed:2", "table", after="rmi committed:2"),
    case("commit --format nosuch made x", "code"),
    case("ps --ns", "table"),
    case("ps -a --ns --noheading", "table"),
    case("ps -a --external --sync -q", "table"),
    case("ps -a --sort size -q", "table"),
    case("events --stream=false --since 1s --filter container=nosuch", "code"),
    case("inspect -s --format '{{.SizeRw}}' made", "code"),
    case("container inspect -s made", "keys", lacks=OF_PODMAN),
    case("inspect --format '{{.Name}} {{.Driver}}' store"),
    case("inspect --type volume --format '{{.Name}}' store"),
    case("inspect --type pod store", "code"),
    case("inspect --type network made", "code"),
    case("create --name tmp --network private same true", after="rm tmp"),
    case("create --name tmp --requires nosuch same true", "code"),
    case(
        "create --name tmp --network none --requires made same true",
        after="rm --depend tmp",
    ),
    case("rm --depend nosuch", "code"),
    case("rm --filter name=nosuch"),
    case("stop --filter name=nosuch"),
    case("stop -i nosuch"),
    case("stop --cidfile nosuch", "code"),
    case("kill --cidfile nosuch", "code"),
    case("pause --filter name=nosuch"),
    case("logs -n ended", prints="podman names the lines of several only"),
    case("version --format '{{.Client.OsArch}} {{.Client.Built}}'"),
    case("version --format '{{.OsArch}} {{.Built}}'"),
    case("version --format '{{.Nosuch}}'", "code"),
    case("info --format '{{.Host.Arch}} {{.Host.OS}} {{.Host.CPUs}} {{.Host.Kernel}}'"),
    case("info --format '{{.Host.CgroupsVersion}} {{json .Host.CgroupControllers}}'"),
    case("info --format '{{.Host.OCIRuntime.Name}} {{.Host.Conmon.Path}} {{.Host.Hostname}}'"),
    case("info --format '{{.Host.Conmon.Version}} {{.Host.OCIRuntime.Version}}'"),
    case("info --format '{{json .Host.Distribution}} {{json .Host.IDMappings}}'"),
    case("info --format '{{json .Store.ContainerStore}} {{.Store.ImageStore.Number}}'"),
    case("info --format '{{.Host.Security.Rootless}} {{.Host.Security.SELinuxEnabled}}'"),
    case("info --format '{{.Nosuch}}'", "code"),
    case("info extra", "code"),
    # -- the command line itself
    case("nosuchcommand", "code"),
    case("ps --nosuch", "code"),
    case("image nosuch", "code"),
    case("ps extra", "code"),
    case("rename one", "code"),
    case("login --get-login nosuch.example", "code"),
    case("logout nosuch.example", "code"),
]


def normal(text: str) -> str:
    """Without ids, times and the place of the store."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "<ID>", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "<id>", text)
    return re.sub(r"\d{4}-\d\d-\d\d[T ][0-9:.]+( \+0000 UTC|Z|[+-]\d\d:?\d\d)?", "<time>", text)


def paths(value: Any) -> set[str]:
    """The names of the first two levels of a document, or of those in a list."""
    found: set[str] = set()
    for one in value if isinstance(value, list) else [value]:
        found |= set(one)
        for key, inner in one.items():
            if isinstance(inner, dict) and key not in ("Labels", "Annotations"):
                found |= {f"{key}.{name}" for name in inner}
    return found


def state(engine: Engine) -> list[str]:
    """What there is: containers with their states, names of images, volumes, pods."""
    containers = json.loads(engine.must("ps -a --format json"))
    lines = [f"{one['Names'][0]} {one['State']}" for one in containers]
    lines += engine.must("images --format '{{.Repository}}:{{.Tag}}'").splitlines()
    lines += engine.must("volume ls -q").splitlines()
    return sorted(lines)


CHANGES = frozenset(
    "run create start stop kill pause unpause restart rename rm tag untag rmi".split()
)


@pytest.mark.parametrize("given", CASES)
def test_the_same(pair: Pair, given: Case) -> None:
    ours, theirs = pair.ours(given.line), pair.theirs(given.line)
    shown = f"\n--- tiffin {ours}\n--- podman {theirs}"
    try:
        if given.differs:
            assert ours.code != theirs.code, f"no difference any more{shown}"
        else:
            assert ours.code == theirs.code, shown
        if given.prints:
            assert normal(ours.out) != normal(theirs.out), f"no difference any more{shown}"
        elif given.check == "same":  # podman works at several in any order
            order = sorted if given.line.split()[0] in CHANGES - {"run"} else list
            assert order(normal(ours.out).splitlines()) == order(normal(theirs.out).splitlines()), (
                shown
            )
        elif given.check == "code":
            assert bool(ours.out) == bool(theirs.out), shown
        elif given.check == "keys":
            lacking = paths(json.loads(theirs.out)) - paths(json.loads(ours.out))
            assert lacking <= given.lacks, sorted(lacking - given.lacks)
        else:
            mine, others = ours.out.splitlines(), theirs.out.splitlines()
            assert len(mine) == len(others), shown
            if mine and mine[0].isupper():
                assert re.split("  +", mine[0].strip()) == re.split("  +", others[0].strip()), shown
        if ours.code:
            assert ours.err.strip() or not theirs.err.strip(), shown
        on_purpose = given.differs or given.prints
        if not on_purpose and given.line.split()[0] in CHANGES | {"volume", "pod", "commit"}:
            assert state(pair.ours) == state(pair.theirs), shown
    finally:
        for line in given.after:
            for engine in pair:
                engine(line)


OF_PODMAN_ALONE = """
host.buildahVersion host.remoteSocket host.remoteSocket.path host.slirp4netns
host.slirp4netns.executable host.slirp4netns.package host.slirp4netns.version host.conmon.package
host.ociRuntime.package plugins.authorization version.GoVersion
"""
"""Of programs that have no part in it here; packages are the distribution's to tell."""


def _keys(node: Any, above: str = "") -> set[str]:
    if not isinstance(node, dict):
        return set()
    return {f"{above}{key}" for key in node} | {
        key for name, inner in node.items() for key in _keys(inner, f"{above}{name}.")
    }


def test_info_has_all_that_podmans_has(pair: Pair) -> None:
    ours, theirs = (json.loads(engine.must("info --format json")) for engine in pair)
    lacking = _keys(theirs) - _keys(ours)
    assert lacking == set(OF_PODMAN_ALONE.split())
    for key in ("arch", "cgroupVersion", "cpus", "hostname", "kernel", "memTotal", "os"):
        assert ours["host"][key] == theirs["host"][key], key
    lines = pair.ours.must("info").splitlines()
    assert f"  kernel: {os.uname().release}" in lines
    assert "  distribution:" in lines and "  serviceIsRemote: false" in lines
