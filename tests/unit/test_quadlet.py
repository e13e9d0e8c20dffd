"""Quadlet: systemd's file format, and files as services."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiffin.cli import commands, namespaced
from tiffin.cli.main import load
from tiffin.errors import UserError
from tiffin.quadlet import generator, installing, keys, sources, translate, unitfile
from tiffin.quadlet.sources import Source

TIFFIN = "/usr/bin/tiffin"
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)


def made(files: dict[str, str], *, user: bool = False) -> tuple[dict[str, str], list[str]]:
    """(text of services by name, problems)."""
    found = [Source(name, f"/q/{name}", unitfile.parse(text)) for name, text in files.items()]
    services, problems = translate.services(found, program=[TIFFIN], user=user)
    return {service.name: service.text for service in services}, problems


def one(text: str, name: str = "web.container") -> unitfile.UnitFile:
    services, problems = made({name: text})
    assert not problems
    (service,) = services.values()
    return unitfile.parse(service)


def run_line(text: str) -> list[str]:
    """The words of ExecStart of a container with this in [Container]."""
    service = one(f"[Container]\nImage=i\n{text}")
    return unitfile.split(service.last("Service", "ExecStart"))


def flag(words: list[str], name: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == name]


# --- the format -----------------------------------------------------------------------------------


def test_lines_go_on_and_comments_do_not_count() -> None:
    unit = unitfile.parse("# c\n[A]\nx = 1 \\\n; c\n  2\\\n3\ny=\n\n[B]\nx==z\n[A]\nx=last\n")
    assert unit.sections == {"A": [("x", "1    2 3"), ("y", ""), ("x", "last")], "B": [("x", "=z")]}


def test_an_empty_value_takes_back_those_before_it() -> None:
    unit = unitfile.parse("[A]\nx=1\nx=2\nx=\nx=3\n")
    assert unit.all("A", "x") == ["3"]
    assert unit.last("A", "y") == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x=1", "stands before the first"),
        ("[A]\nnothing", "line 2: 'nothing' is not of the form"),
        ("[A\n", "not the head of a section"),
        ("[A]\n=1", "not of the form"),
        ("[A]\nx=\0", "NUL"),
    ],
)
def test_what_is_no_unit_file_is_named(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("[", r"\[")):
        unitfile.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        (r'"a b" c\ d', ["a b", "c\\", "d"]),
        (r"'it''s' x\x20y \u20ac \101 \q", ["its", "x y", "€", "A", r"\q"]),
        (r'a"b c"d "\"" ""', ["ab cd", '"', ""]),
        ("%i $HOME ${X} %%", ["%i", "$HOME", "${X}", "%%"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert unitfile.split(text) == words


def test_a_quote_that_is_not_closed_is_an_error() -> None:
    with pytest.raises(UserError, match="is not closed"):
        unitfile.split("a 'b")


@given(st.lists(TEXT, max_size=6))
def test_quoted_words_are_read_back(words: list[str]) -> None:
    line = unitfile.command(words)
    assert unitfile.split(line) == words
    assert "\n" not in line and ";" not in line.split(" ")


@given(st.text(max_size=80))
@settings(max_examples=300)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        unit = unitfile.parse(text)
    except UserError:
        return
    again = unitfile.parse(unitfile.render(unit.sections))
    assert again.sections == unit.sections


# --- files ----------------------------------------------------------------------------------------


def test_search_paths() -> None:
    root = sources.search_path({}, user=False, uid=0)
    assert root[:2] == ["/run/tiffin/systemd", "/run/containers/systemd"]
    assert root[-1] == "/usr/share/containers/systemd"
    environ = {"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/u"}
    user = sources.search_path(environ, user=True, uid=7, names=("containers",))
    assert user == [
        "/run/user/7/containers/systemd",
        "/home/u/.config/containers/systemd",
        "/etc/containers/systemd/users/7",
        "/etc/containers/systemd/users",
        "/usr/share/containers/systemd/users/7",
        "/usr/share/containers/systemd/users",
    ]
    environ["XDG_CONFIG_HOME"] = "/c"
    assert "/c/tiffin/systemd" in sources.search_path(environ, user=True, uid=7)
    given = sources.search_path({"QUADLET_UNIT_DIRS": "/a:/b"}, user=True, uid=7)
    assert given == ["/a", "/b"]


def write(top: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_first_of_a_name_counts_and_users_files_are_not_roots(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "run/a.container": "[Container]\nImage=run\n",
            "etc/a.container": "[Container]\nImage=etc\n",
            "etc/deep/er/b.container": "[Container]\nImage=b\n",
            "etc/users/c.container": "[Container]\nImage=c\n",
            "etc/users/12/d.container": "[Container]\nImage=d\n",
            "etc/bad.container": "Image=b\n",
        },
    )
    (tmp_path / "etc/loop").symlink_to(tmp_path / "etc")
    (tmp_path / "etc/masked.container").symlink_to("/dev/null")
    places = [str(tmp_path / "run"), str(tmp_path / "etc")]
    found, problems = sources.load(places, user=False)
    assert {source.name: source.text.last("Container", "Image") for source in found} == {
        "a.container": "run",
        "b.container": "b",
    }
    assert [problem.partition(": ")[2] for problem in problems] == [
        "line 1: Image= stands before the first [SECTION]"
    ]
    users, _ = sources.load([str(tmp_path / "etc/users")], user=True)
    assert [source.name for source in users] == ["c.container"]


def test_dropins_from_the_general_to_the_particular(tmp_path: Path) -> None:
    assert sources.folders("a-b@c.container") == [
        "container.d",
        "a-.container.d",
        "a-b@.container.d",
        "a-b@c.container.d",
    ]
    write(
        tmp_path,
        {
            "a-b.container": "[Container]\nImage=0\nLabel=x=1\n",
            "container.d/10.conf": "[Container]\nImage=1\n",
            "container.d/90.conf": "[Container]\nImage=9\n",
            "container.d/95.conf": "[Container]\nImage=95\n",
            "a-b.container.d/10.conf": "[Container]\nLabel=\nLabel=y=2\n",
            "a-b.container.d/20.conf": "[Install]\nWantedBy=default.target\n",
        },
    )
    (tmp_path / "a-b.container.d/95.conf").symlink_to("/dev/null")
    (source,), problems = sources.load([str(tmp_path)], user=False)
    assert not problems
    assert source.text.all("Container", "Image") == ["0", "9"]
    assert source.text.all("Container", "Label") == ["y=2"]
    assert source.text.last("Install", "WantedBy") == "default.target"


# --- services -------------------------------------------------------------------------------------


def test_every_flag_of_the_tables_is_one_of_the_command() -> None:
    names = {
        "container": "run",
        "pod": "pod create",
        "network": "network create",
        "volume": "volume create",
        "image": "pull",
        "build": "build",
    }
    for kind, (_, rules) in keys.SECTIONS.items():
        known = {f"--{flag.name}" for flag in load(names[kind]).flags}
        for key, (rule, meaning) in rules.items():
            if rule not in ("own", "absent"):
                assert meaning.partition(" ")[0] in known, (kind, key)


def test_the_command_lines_are_taken_by_the_program() -> None:
    """Every word that a kind adds by itself is a flag, too."""
    from tiffin.cli.flags import parse

    services, problems = made(
        {
            "a.container": "[Container]\nImage=i.image\nPod=p.pod\nNotify=yes\nUser=1\nGroup=2\n"
            "NoNewPrivileges=yes\nEnvironmentHost=yes\nEnvironmentFile=x\nAddDevice=/dev/null\n"
            "AddDevice=-/dev/nothing\nReloadSignal=HUP\nAutoUpdate=local\nReadOnly=yes\n"
            "Mount=type=volume,source=v.volume,dst=/d\nExec=a b\n",
            "p.pod": "[Pod]\n",
            "i.image": "[Image]\nImage=x\nArch=arm64\nVariant=v8\n",
            "b.build": "[Build]\nImageTag=x\nSetWorkingDirectory=unit\nFile=F\nIgnoreFile=I\n"
            "Volume=v.volume:/x\nNetwork=n.network\n",
            "v.volume": "[Volume]\nUser=1\nGroup=2\nCopy=no\n",
            "n.network": "[Network]\nNetworkDeleteOnStop=yes\nSubnet=10.1.0.0/24\n",
        }
    )
    assert not problems
    assert len(services) == 6
    count = 0
    for text in services.values():
        for key, value in unitfile.parse(text).sections["Service"]:
            if key.startswith("Exec"):
                program, *words = unitfile.split(value.removeprefix("-"))
                assert program == TIFFIN
                found = commands.find(words)
                assert found is not None, words
                parse(load(found[0]), words[found[1] :])
                count += 1
    assert count == 12


def test_a_container() -> None:
    service = one(
        "[Unit]\nDescription=D\n[Container]\nImage=docker.io/library/nginx\n"
        'Exec=sh -c "echo $$HOME %i"\nEnvironment=A=1 "B=two words"\nEnvironment=A=3\n'
        "AddCapability=NET_ADMIN SYS_TIME\nPodmanArgs=--init --memory 1g\nReadOnly=no\n"
        "[Service]\nRestart=always\nTimeoutStartSec=900\n"
    )
    words = unitfile.split(service.last("Service", "ExecStart"))
    assert words[:7] == [TIFFIN, "run", "--name", "systemd-%N", "--replace", "--rm", "--cgroups"]
    assert words[7:11] == ["split", "--sdnotify", "conmon", "--detach"]
    assert flag(words, "--log-driver") == ["journald"]  # what journalctl -u shows
    assert flag(words, "--env") == ["B=two words", "A=3"]
    assert flag(words, "--cap-add") == ["NET_ADMIN", "SYS_TIME"]
    assert "--read-only=false" in words
    end = ["--init", "--memory", "1g", "docker.io/library/nginx", "sh", "-c", "echo $$HOME %i"]
    assert words[-7:] == end
    assert service.last("Service", "Type") == "notify"
    assert service.last("Service", "Restart") == "always"
    assert service.all("Service", "TimeoutStartSec") == ["900"]
    assert service.last("Service", "ExecStop") == f"{TIFFIN} stop --ignore systemd-%N"
    assert service.last("Service", "ExecStopPost") == f"-{TIFFIN} rm -v -f -i systemd-%N"
    assert service.all("Unit", "After") == ["network-online.target"]
    assert service.last("Unit", "SourcePath") == "/q/web.container"


def test_a_oneshot_is_in_the_foreground() -> None:
    service = one("[Container]\nImage=i\n[Service]\nType=oneshot\n")
    words = unitfile.split(service.last("Service", "ExecStart"))
    assert "--detach" not in words and "--sdnotify" not in words
    assert service.all("Service", "Type") == ["oneshot"]


def test_what_files_refer_to_is_made_first() -> None:
    services, problems = made(
        {
            "web.container": "[Unit]\nAfter=db.container dbus.socket\n[Container]\n"
            "Image=app.build\nVolume=data.volume:/data:z\nVolume=./here:/here\n"
            "Network=back.network:alias=w\nNetwork=db.container\nPod=all.pod\n",
            "db.container": "[Container]\nImage=base.image\nContainerName=the-db\n"
            "ServiceName=database\nPod=all.pod\nStartWithPod=no\n",
            "data.volume": "[Volume]\nVolumeName=kept\n",
            "back.network": "[Network]\n",
            "all.pod": "[Pod]\nNetwork=back.network\n",
            "app.build": "[Build]\nImageTag=localhost/app\nFile=/x/Containerfile\n",
            "base.image": "[Image]\nImage=docker.io/library/postgres\n",
        }
    )
    assert not problems
    assert sorted(services) == [
        *("all-pod.service", "app-build.service", "back-network.service", "base-image.service"),
        *("data-volume.service", "database.service", "web.service"),
    ]
    web = unitfile.parse(services["web.service"])
    words = unitfile.split(web.last("Service", "ExecStart"))
    assert flag(words, "--volume") == ["kept:/data:z", "/q/here:/here"]
    assert flag(words, "--network") == ["systemd-back:alias=w", "container:the-db"]
    assert flag(words, "--pod") == ["systemd-all"]
    assert words[-1] == "localhost/app"
    needed = ["data-volume.service", "back-network.service", "database.service"]
    assert sorted(web.all("Unit", "Requires")) == sorted([*needed, "app-build.service"])
    assert web.all("Unit", "BindsTo") == ["all-pod.service"]
    assert web.all("Unit", "After")[-1] == "database.service dbus.socket"
    pod = unitfile.parse(services["all-pod.service"])
    assert pod.all("Unit", "Wants") == ["network-online.target", "web.service"]
    assert pod.last("Unit", "StopWhenUnneeded") == "yes"
    database = unitfile.split(
        unitfile.parse(services["database.service"]).last("Service", "ExecStart")
    )
    assert database[-1] == "docker.io/library/postgres"


def test_templates_and_their_links(tmp_path: Path) -> None:
    text = "[Container]\nImage=i\nExec=sleep %i\n[Install]\nWantedBy=default.target\n"
    found = [
        Source("s@.container", "/q/s@.container", unitfile.parse(text)),
        Source("s@10.container", "/q/s@10.container", unitfile.parse(text)),
        Source("d@.container", "/q/d@.container", unitfile.parse(f"{text}DefaultInstance=5\n")),
    ]
    services, problems = translate.services(found, program=[TIFFIN], user=True)
    assert not problems
    links = {service.name: service.links for service in services}
    assert links == {
        "s@.service": (),
        "s@10.service": ("default.target.wants/s@10.service",),
        "d@.service": ("default.target.wants/d@5.service",),
    }
    assert "--name systemd-%P_%I" in services[0].text
    for service in services:
        generator.write(service, str(tmp_path))
    linked = tmp_path / "default.target.wants/d@5.service"
    assert os.readlink(linked) == "../d@.service"
    assert linked.read_text() == (tmp_path / "d@.service").read_text()


def test_our_own_paths_are_not_expanded() -> None:
    text = "[Container]\nImage=i\nVolume=./x:/x\nEnvironmentFile=%t/env\nEnvironmentFile=e\n"
    source = Source("a.container", "/100% $X/a.container", unitfile.parse(text))
    (service,), _ = translate.services([source], program=["/opt/50%/tiffin"], user=False)
    words = unitfile.split(unitfile.parse(service.text).last("Service", "ExecStart"))
    assert words[0] == "/opt/50%%/tiffin"
    assert flag(words, "--volume") == ["/100%% $$X/x:/x"]
    assert flag(words, "--env-file") == ["%t/env", "/100%% $$X/e"]
    assert unitfile.parse(service.text).last("Unit", "SourcePath") == "/100%% $X/a.container"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.container", "[Container]\nImag=x\n", "Imag= in [Container] is not known; did you mean"),
        ("a.container", "[Container]\nExec=x\n", "Image= is missing"),
        ("a.container", "[Volume]\n", "there is no section [Container]"),
        ("a.container", "[Container]\nImage=x\n[Pod]\n", "[Pod] belongs into a .pod file"),
        ("a.container", "[Container]\nImage=x.image\n", "no usable file x.image"),
        ("a.container", "[Container]\nImage=x\nVolume=v.volume:/v\n", "no usable file v.volume"),
        ("a.container", "[Container]\nImage=x\nReadOnly=maybe\n", "neither yes nor no"),
        ("a.container", "[Container]\nImage=x\nExec='x\n", "is not closed"),
        ("a.container", "[Container]\nImage=x\nRetry=3\n", "is not there in tiffin"),
        ("a.container", "[Container]\nImage=x\nGroup=3\n", "needs User="),
        ("a.container", "[Container]\nImage=x\n[Service]\nType=simple\n", "Type=simple"),
        ("a.container", "[Container]\nImage=x\n[Service]\nKillMode=none\n", "KillMode=none"),
        ("a.container", "[Container]\nImage=x\n[Install]\nWant=y\n", "Want= in [Install]"),
        ("a.container", "[Container]\nImage=x\n[Install]\nAlias=../y\n", "not the name"),
        ("a.container", "[Unit]\nAfter=z.pod\n[Container]\nImage=x\n", "no usable file z.pod"),
        ("a.pod", "[Pod]\nExitPolicy=x\n", "stop or continue"),
        ("a.build", "[Build]\nImageTag=x\n", "SetWorkingDirectory= is missing"),
        ("a.build", "[Build]\nImageTag=x\nFile=https://x/y\n", "local directories only"),
        ("a.network", "[Network]\nGateway=10.0.0.1\n", "needs a Subnet="),
        ("a.volume", "[Volume]\nType=tmpfs\n", "need Device="),
        ("a.volume", "[Volume]\nDriver=image\n", "Driver=image"),
        ("a.kube", "[Kube]\nYaml=x\n", "cannot play Kubernetes YAML yet"),
    ],
)
def test_a_file_with_an_error_makes_no_service(name: str, text: str, said: str) -> None:
    services, problems = made({name: text, "good.container": "[Container]\nImage=x\n"})
    assert list(services) == ["good.service"]
    (problem,) = problems
    assert problem.startswith(f"/q/{name}: ") and said in problem


def test_a_container_that_cannot_be_is_not_started_by_its_pod() -> None:
    services, _ = made({"p.pod": "[Pod]\n", "a.container": "[Container]\nPod=p.pod\n"})
    assert list(services) == ["p-pod.service"]
    assert "a.service" not in services["p-pod.service"]


@given(st.lists(st.sampled_from(sorted(keys.CONTAINER)), max_size=8), st.lists(TEXT, max_size=8))
def test_no_value_breaks_out_of_its_line(names: list[str], values: list[str]) -> None:
    """Whatever a file says, each line of the service is the key's that was meant."""
    lines = [f"{name}={value}" for name, value in zip(names, values, strict=False)]
    try:
        text = unitfile.parse("\n".join(["[Container]", "Image=i", *lines]))
    except UserError:
        return
    services, problems = translate.services(
        [Source("a.container", "/q/a.container", text)], program=[TIFFIN], user=True
    )
    assert len(services) + len(problems) == 1
    for service in services:
        parsed = unitfile.parse(service.text)
        assert set(parsed.sections) == {"Unit", "Service"}
        for key, _ in parsed.sections["Service"]:
            assert key.startswith("Exec") or key in (
                *("Type", "NotifyAccess", "KillMode", "Delegate", "SyslogIdentifier"),
                "Environment",
            )


# --- the program ----------------------------------------------------------------------------------

FILES = {
    "web.container": "[Container]\nImage=i\nVolume=d.volume:/d\nPod=p.pod\nExec=a ';' %i \"x y\"\n"
    "[Install]\nWantedBy=multi-user.target\n",
    "d.volume": "[Volume]\n",
    "p.pod": "[Pod]\n",
    "n.network": "[Network]\n",
}


def generate(
    tmp_path: Path, files: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    write(tmp_path / "in", files)
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "generator").write_text(installing.script("system"))
    (tmp_path / "generator").chmod(0o755)
    return subprocess.run(
        [tmp_path / "generator", *words, str(tmp_path / "out")],
        env={"QUADLET_UNIT_DIRS": str(tmp_path / "in")},
        capture_output=True,
        text=True,
    )


def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    done = generate(tmp_path, FILES)
    assert (done.returncode, done.stderr) == (0, "")
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file())
    assert names == ["d-volume.service", "n-network.service", "p-pod.service", "web.service"]
    units = [str(tmp_path / "out" / name) for name in names]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True
    )
    said = [line for line in verified.stderr.splitlines() if str(tmp_path) in line]
    assert not said, verified.stderr


def test_dryrun_prints_and_writes_nothing(tmp_path: Path) -> None:
    done = generate(tmp_path, {**FILES, "bad.container": "[Container]\nX=1\n"}, "--dryrun")
    assert done.returncode == 1
    assert "---web.service---\n[Unit]" in done.stdout
    assert done.stderr.startswith(f"tiffin-quadlet: {tmp_path}/in/bad.container: X= in [Container]")
    assert not list((tmp_path / "out").iterdir())


def test_the_generator_imports_nothing_of_the_engine(tmp_path: Path) -> None:
    """Every user's systemd waits for it at each login."""
    write(tmp_path, FILES)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from tiffin.quadlet import generator;"
        "generator.run(['--dryrun'], {'QUADLET_UNIT_DIRS': sys.argv[2]}, 0);"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in "
        "('trio', 'msgspec', 'sqlite3', 're', 'typing', 'subprocess', 'asyncio', 'json')))"
    )
    top = str(Path(generator.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, top, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_podmans_generator_keeps_its_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two generators would write the same services."""
    podman = tmp_path / "podman-system-generator"
    monkeypatch.setattr(generator, "PODMAN", (f"{tmp_path}/podman-{{}}-generator",))
    assert not generator.podman_does(user=False)
    podman.write_text("")
    podman.chmod(0o755)
    assert generator.podman_does(user=False)
    assert not generator.podman_does(user=True)


def test_installed_generators_run(tmp_path: Path) -> None:
    paths = installing.install(str(tmp_path))
    assert [Path(path).parent.name for path in paths] == ["system-generators", "user-generators"]
    for path in paths:
        assert os.access(path, os.X_OK)
        assert shlex.split(Path(path).read_text().splitlines()[-1])[0] == "exec"
    assert installing.uninstall(str(tmp_path)) == paths
    assert installing.uninstall(str(tmp_path)) == []


def test_a_wrong_command_line_is_told() -> None:
    for words in (["--nothing"], [], ["a", "b"]):
        with pytest.raises(UserError):
            generator.Call(words, {})


def test_users_do_not_enter_their_namespace_for_it() -> None:
    """Within, the generator would be root's."""
    for name in ("system quadlet", "generate systemd"):
        assert name in commands.COMMANDS
        assert name in namespaced.READS
