"""What each instruction of a Dockerfile does: RUN, COPY, ADD, their flags, what they refuse."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.building import FROM, Context
from support.cli import Tiffin


@pytest.fixture
def context(shared: Tiffin, tmp_path: Path) -> Iterator[Context]:
    made = Context(shared, tmp_path)
    yield made
    assert not made.left()


def tar_of(files: dict[str, str], mode: str = "w:gz") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.gid = len(text), 7, 8
            archive.addfile(entry, io.BytesIO(text.encode()))
    return target.getvalue()


# --- RUN ------------------------------------------------------------------------------------------


def test_forms_of_run(context: Context) -> None:
    text = f"""# syntax=docker/dockerfile:1
{FROM}ARG WHO=world
ENV GREETING=hello
RUN echo shell $GREETING $WHO > /shell
RUN ["/bin/sh", "-c", "echo exec $0 > /exec", "zero"]
RUN <<EOF
set -e
# not a comment of the Dockerfile
echo heredoc $WHO > /heredoc
EOF
RUN <<-'SCRIPT'
\t#!/bin/sh
\techo script $0 > /script
SCRIPT
RUN cat <<A > /a && cat <<B > /b
first
A
second
B
RUN echo one \\
    # between
    two \\

    three > /continued
SHELL ["/bin/sh", "-ec"]
RUN false; echo not reached
"""
    assert "STEP" in context.fails(text, code=1)
    image = context.image(text.replace("RUN false; echo not reached", 'CMD echo "$0"'))
    said = context.sh(image, "cat /shell /exec /heredoc /script /a /b /continued")
    assert said.splitlines() == [
        "shell hello world",
        "exec zero",
        "heredoc world",
        "script /dev/pipes/SCRIPT",
        "first",
        "second",
        "one two three",
    ]
    assert context.config(image)["Cmd"] == ["/bin/sh", "-ec", 'echo "$0"']


def test_user_workdir_and_env_hold_for_run(context: Context) -> None:
    text = f"""{FROM}ENV A=1
USER www-data:users
WORKDIR /srv/app
WORKDIR sub
ENV A=2 B=$A
RUN pwd > /tmp/x; id -un >> /tmp/x; id -gn >> /tmp/x; echo $A $B >> /tmp/x; touch owned
"""
    image = context.image(text)
    said = context.sh(image, "cat /tmp/x; stat -c %U /srv/app/sub /srv/app/sub/owned")
    assert said.split() == [
        *("/srv/app/sub", "www-data", "users", "2", "1", "www-data", "www-data"),
    ]
    assert context.config(image)["WorkingDir"] == "/srv/app/sub"


def test_mounts(context: Context) -> None:
    context.write("ctx/file", "from the context\n")
    text = f"""FROM embedded:busybox AS other
RUN echo from a stage > /staged
{FROM}RUN --mount=type=bind,source=ctx,target=/b cat /b/file > /1; ! touch /b/new
RUN --mount=source=ctx,target=/b,rw touch /b/new && ls /b > /2
RUN --mount=type=bind,from=other,target=/o cat /o/staged > /3
RUN --mount=type=tmpfs,target=/t,size=1m df -k /t | tail -n 1 | awk '{{print $2}}' > /4; touch /t/x
RUN --mount=type=cache,target=/c,id=kept,uid=33,mode=0700 echo x >> /c/n; stat -c '%u %a' /c > /5
RUN --mount=type=cache,target=/d,id=kept,sharing=locked echo x >> /d/n; wc -l < /d/n > /6
"""
    image = context.image(text)
    assert context.sh(image, "cat /1 /2 /3 /4 /5 /6").splitlines() == [
        *("from the context", "file", "new", "from a stage", "1024", "33 700", "2"),
    ]
    left = context.sh(image, "ls -d /b /o /t /c /d 2>/dev/null; true")
    assert left == "", "places of mounts are no part of the image"
    assert not (context.directory / "ctx/new").exists(), "rw is not for keeps"
    volumes = context.tiffin("volume", "ls", "-q").lines
    assert [v for v in volumes if v.startswith("build-cache-")]
    context.write("ctx/file", "changed\n")
    assert context.build(None).out.count("Using cache") == 1, "the context's file counts"
    context.tiffin("volume", "prune", "-f")


def test_secrets_are_nowhere(context: Context) -> None:
    secret = context.write("token", "s3cret-" + os.urandom(8).hex())
    value = secret.read_text()
    text = f"""{FROM}RUN --mount=type=secret,id=token md5sum < /run/secrets/token > /1
RUN --mount=type=secret,id=token,target=/t,mode=0444,uid=33 stat -c '%u %a' /t > /2
RUN --mount=type=secret,id=token,env=TOKEN echo -n "$TOKEN" | md5sum > /3
RUN --mount=type=secret,id=other,env=OTHER echo -n "${{OTHER}}" | md5sum > /4
RUN --mount=type=secret,id=absent ls /run/secrets/absent 2>/dev/null || echo absent > /5
"""
    flags = ("--secret", f"id=token,src={secret}", "--secret", "id=other,env=TIFFIN_TEST_SECRET")
    env = {"TIFFIN_TEST_SECRET": value + "-env"}
    image = context.image(text, *flags, env=env)
    digests = [hashlib.md5(v.encode()).hexdigest() for v in (value, value + "-env")]
    assert context.sh(image, "cat /1 /2 /3 /4 /5").split() == [
        *(digests[0], "-", "33", "444", digests[0], "-", digests[1], "-", "absent"),
    ]
    for path in context.tiffin.base.rglob("*"):
        if path.is_file() and path != secret:
            assert value.encode() not in path.read_bytes(), path
    required = f"{FROM}RUN --mount=type=secret,id=need,required true"
    assert "the secret need is not given" in context.fails(required)


def test_networks_of_run(context: Context) -> None:
    links = "RUN --network={0} ls /sys/class/net > /{0}\n"
    context.dockerfile(FROM + links.format("none") + links.format("host"))
    image = context.tiffin("build", "-q", "--no-cache", context.directory).word
    ours = sorted(os.listdir("/sys/class/net"))
    assert context.sh(image, "cat /none").split() == ["lo"]
    assert sorted(context.sh(image, "cat /host").split()) == ours


def test_hosts_and_limits(context: Context) -> None:
    text = f"{FROM}RUN grep -c 198.51.100.7 /etc/hosts > /1; ulimit -n > /2\n"
    image = context.image(text, "--add-host=api:198.51.100.7", "--ulimit=nofile=77:77")
    assert context.sh(image, "cat /1 /2").split() == ["1", "77"]


def test_what_volumes_hold_is_kept_by_run(context: Context) -> None:
    image = context.image(f"{FROM}VOLUME /data\nRUN echo kept > /data/x\n")
    assert context.sh(image, "cat /data/x") == "kept\n"
    context.tiffin("volume", "prune", "-f")


# --- COPY and ADD ---------------------------------------------------------------------------------


def listing(context: Context, image: str, *places: str) -> list[str]:
    script = f"cd /; find {' '.join(places)} -type f | sort"
    return context.sh(image, script).split()


def test_places_of_copy(context: Context) -> None:
    for name in ("a.txt", "b.txt", "c.md", "d/e/deep.txt", "d/x.txt", "d/.hidden"):
        context.write(name, name)
    text = f"""{FROM}WORKDIR /w
COPY a.txt renamed
COPY a.txt ./
COPY *.txt /glob/
COPY d /dir
COPY d/ d/e /two/
COPY d/*/deep.txt /deep/
COPY ["a.txt", "with space/"]
COPY **/x.txt /any/
COPY . /all
COPY a.txt /bin
"""
    image = context.image(text)
    found = listing(context, image, "w", "glob", "dir", "two", "deep", "any")
    assert found == [
        *("any/x.txt", "deep/deep.txt", "dir/.hidden", "dir/e/deep.txt", "dir/x.txt"),
        *("glob/a.txt", "glob/b.txt"),
        *("two/.hidden", "two/deep.txt", "two/e/deep.txt", "two/x.txt"),
        *("w/a.txt", "w/renamed", "w/with", "space/a.txt"),
    ]
    assert "/bin/a.txt" in context.sh(image, "ls /bin/a.txt /bin/sh")
    assert context.sh(image, "cat /all/d/e/deep.txt") == "d/e/deep.txt"


def test_owners_and_modes(context: Context) -> None:
    context.write("d/run.sh", "x", 0o750)
    context.write("d/data", "x", 0o644)
    os.chown(context.directory / "d/data", 12, 34)
    text = f"""{FROM.strip()} AS one
COPY --chown=33:100 d /own
{FROM}COPY d /plain
COPY --chown=www-data d /named
COPY --chown=12:users --chmod=600 d/data /both
COPY --from=one /own /kept
ADD --chmod=711 d/run.sh /added
"""
    image = context.image(text)
    script = "stat -c '%n %U %g %a' /plain/* /named/data /both /kept/run.sh /added"
    assert context.sh(image, script).splitlines() == [
        "/plain/data root 0 644",
        "/plain/run.sh root 0 750",
        "/named/data www-data 33 644",
        "/both UNKNOWN 100 600",
        "/kept/run.sh www-data 100 750",
        "/added root 0 711",
    ]


def test_archives_are_unpacked_by_add_only(context: Context) -> None:
    files = {"in/one": "1\n", "two": "2\n"}
    for suffix, mode in (("tar", "w"), ("tgz", "w:gz"), ("tar.bz2", "w:bz2"), ("tar.xz", "w:xz")):
        context.write(f"a.{suffix}", tar_of(files, mode))
    context.write("plain.gz", b"\x1f\x8b is no archive")
    text = f"""{FROM}ADD a.tar /tar
ADD a.tgz /tgz/
ADD a.tar.bz2 a.tar.xz plain.gz /many/
COPY a.tgz /copied/
"""
    image = context.image(text)
    assert listing(context, image, "tar", "tgz", "many", "copied") == [
        *("copied/a.tgz", "many/in/one", "many/plain.gz", "many/two", "tar/in/one", "tar/two"),
        *("tgz/in/one", "tgz/two"),
    ]
    assert context.sh(image, "stat -c '%u %g' /tgz/two").split() == ["7", "8"]


def test_heredocs_of_copy(context: Context) -> None:
    text = f"""{FROM}ARG WHO="the world"
COPY <<EOF /plain
hello "$WHO" 'and' \\$WHO
EOF
COPY --chmod=700 <<'EOF' /quoted
hello $WHO
EOF
COPY <<one.txt <<-two.txt /files/
1
one.txt
\t\t2
\ttwo.txt
"""
    image = context.image(text)
    assert context.sh(image, "cat /plain /quoted /files/one.txt /files/two.txt").splitlines() == [
        "hello \"the world\" 'and' $WHO",
        "hello $WHO",
        "1",
        "2",
    ]
    assert context.sh(image, "stat -c %a /plain /quoted").split() == ["644", "700"]


def test_a_heredoc_of_copy_is_written_in_the_build_only(context: Context) -> None:
    outside = context.directory.parent / "outside"
    for name in (str(outside), f"../../../../../../../../..{outside}", ".."):
        text = f"{FROM}COPY <<{name} /x\nowned\n{name}\n"
        assert "a heredoc of COPY is a file's name" in context.fails(text)
    assert not outside.exists()


def test_ignored(context: Context) -> None:
    for name in ("keep.txt", "drop.log", "d/drop.log", "d/keep", "n/m/keep", "n/m/drop", "n/x"):
        context.write(name, name)
    context.write(".dockerignore", "# comment\n**/*.log\nn\n!n/m/keep\n.dockerignore\nDockerfile\n")
    image = context.image(f"{FROM}COPY . /c\n")
    assert listing(context, image, "c") == ["c/d/keep", "c/keep.txt", "c/n/m/keep"]
    assert "it is ignored" in context.fails(f"{FROM}COPY drop.log /\n")
    context.write(".containerignore", "*\n!keep.txt\n")
    assert listing(context, context.image(f"{FROM}COPY . /c\n"), "c") == ["c/keep.txt"]
    context.write("Dockerfile.dockerignore", "keep.txt\nn\nd\n")
    image = context.image(f"{FROM}COPY . /c\n")
    assert "c/keep.txt" not in listing(context, image, "c")


def test_links_of_the_image_end_in_its_root(context: Context, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    context.write("lib/x", "x")
    context.write("f", "f")
    text = f"""{FROM}RUN ln -s {outside} /link && mkdir -p /usr/lib2 && ln -s usr/lib2 /lib2
RUN ln -s ../../../../{outside} /up && ln -s /usr/lib2/there /file && touch /usr/lib2/there
COPY f /link/
COPY f /up/g
COPY f /file
COPY . /tree/
RUN mkdir -p /r/usr/lib && ln -s usr/lib /r/lib
COPY lib /r/lib
COPY . /r
"""
    image = context.image(text)
    assert os.listdir(outside) == []
    assert context.sh(image, f"cat {outside}/f {outside}/g /usr/lib2/there /r/usr/lib/x") == "fffx"
    assert context.sh(image, "readlink /r/lib") == "usr/lib\n", "a link to a directory stays one"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("absolute", "absolute leads out of the build context"),
        ("relative", "relative leads out of the build context"),
        ("into/passwd", "into/passwd leads out of the build context"),
        ("../outside", "../outside leads out of the build context"),
        ("d/../../x", "d/../../x leads out of the build context"),
        ("nothing", "nothing is not in the build context"),
        ("no*", "no* matches nothing in the build context"),
        ("fifo", "fifo in the build context is neither a file nor a directory"),
        ("f f", "must end in a slash"),
    ],
)
def test_refused_sources(context: Context, source: str, says: str) -> None:
    os.symlink("/etc/passwd", context.directory / "absolute")
    os.symlink("../../../../../../etc/passwd", context.directory / "relative")
    os.symlink("/etc", context.directory / "into")
    os.mkfifo(context.directory / "fifo")
    context.write("f")
    said = context.fails(f"{FROM}\nCOPY {source} /x")
    assert says in said
    assert "Dockerfile:3: COPY" in said


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(URL, directory) of an HTTP server on loopback."""
    directory = tmp_path / "site"
    directory.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", directory
        server.shutdown()
        thread.join()


def test_add_of_a_url(context: Context, site: tuple[str, Path]) -> None:
    url, directory = site
    (directory / "f.tgz").write_bytes(tar_of({"x": "y"}))
    digest = hashlib.sha256((directory / "f.tgz").read_bytes()).hexdigest()
    text = f"""{FROM}ARG FROM_URL={url}
ADD $FROM_URL/f.tgz /got/
ADD --checksum=sha256:{digest} --chown=33 --chmod=640 {url}/f.tgz /named
"""
    image = context.image(text)
    assert context.sh(image, "stat -c '%n %u %a' /got/f.tgz /named").splitlines() == [
        "/got/f.tgz 0 600",
        "/named 33 640",
    ]
    assert context.build(None).out.count("Using cache") == 3
    (directory / "f.tgz").write_bytes(b"other")
    assert "another checksum" in context.fails(text)
    assert "answers 404" in context.fails(f"{FROM}ADD {url}/none /x")
    assert "names no file" in context.fails(f"{FROM}ADD {url}/ /x")
    assert "refuses connections" in context.fails(f"{FROM}ADD http://127.0.0.1:1/x /x")


@pytest.fixture
def repository(site: tuple[str, Path], tmp_path: Path) -> str:
    """URL of a git repository with two branches and a tag."""
    url, directory = site
    work = tmp_path / "work"
    work.mkdir()
    (work / "inner").mkdir()
    (work / "Dockerfile").write_text(f"{FROM}COPY menu /menu\n")
    (work / "menu").write_text("main\n")
    (work / "inner/Dockerfile").write_text(f"{FROM}COPY . /inner\n")
    (work / "inner/x").write_text("inner\n")
    (work / "out").symlink_to("/etc")
    script = """
    export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
    git init -q -b main && git add . && git commit -q -m one && git tag v1
    git checkout -q -b feast && echo feast >menu && git commit -q -a -m two && git checkout -q main
    git clone -q --bare . "$1" && git -C "$1" update-server-info
    """
    argv = ["sh", "-ec", script, "sh", str(directory / "lunch.git")]
    subprocess.run(argv, cwd=work, check=True)
    return f"{url}/lunch.git"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_contexts_from_git(context: Context, repository: str, site: tuple[str, Path]) -> None:
    tiffin = context.tiffin
    build = ("build", "-q", "--network=none")
    for fragment, said in (("", "main"), ("#feast", "feast"), ("#v1", "main"), ("#main:.", "main")):
        image = tiffin(*build, f"{repository}{fragment}").word
        assert context.sh(image, "cat /menu").strip() == said, fragment
    bare = site[1] / "lunch.git"
    argv = ["git", "-C", str(bare), "rev-parse", "feast~1"]
    commit = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    image = tiffin(*build, f"{repository}#{commit}:inner").word
    assert context.sh(image, "find /inner -type f | sort").split() == [
        "/inner/Dockerfile",
        "/inner/x",
    ]
    image = tiffin(*build, "-f", "inner/Dockerfile", f"{repository}#main").word
    assert "/inner/inner/x" in context.sh(image, "find /inner -type f").split()
    for fragment, says in {
        "#nosuch": "no branch, tag or commit 'nosuch'",
        "#main:nosuch": "has no directory nosuch",
        "#main:../..": "leads out",
        "#main:out": "leads out",
        "#main:menu": "is not a directory",
        "#--upload-pack=x": "not of the form",
    }.items():
        tiffin.fails("build", f"{repository}{fragment}", says=says)
    tiffin.fails("build", f"{repository[:-4]}x.git", says="git fetch")
    assert not list((tiffin.root / "builds").glob("*"))


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_add_of_a_repository(context: Context, repository: str) -> None:
    text = f"{FROM}ADD {repository}#feast /src\nADD --keep-git-dir=true {repository} /all\n"
    image = context.image(text)
    said = context.sh(
        image, "cat /src/menu; test -e /src/.git || test -e /all/.git/HEAD && echo ok"
    )
    assert said.split() == ["feast", "ok"]
    assert context.build(None).out.count("Using cache") >= 1


def test_contexts_from_urls(context: Context, site: tuple[str, Path]) -> None:
    url, directory = site
    text = f"{FROM}COPY menu /menu\n"
    (directory / "context.tgz").write_bytes(tar_of({"Dockerfile": text, "menu": "soup"}))
    (directory / "Dockerfile").write_text(f"{FROM}RUN echo dal >/menu\n")
    for name, said in (("context.tgz", "soup"), ("Dockerfile", "dal")):
        image = context.tiffin("build", "-q", "--network=none", f"{url}/{name}").word
        assert context.sh(image, "cat /menu").strip() == said
    (directory / "binary").write_bytes(b"FROM\0")
    context.tiffin.fails("build", f"{url}/binary", says="is not a text")
    context.tiffin.fails("build", f"{url}/none", says="answers 404")


# --- FROM and ONBUILD -----------------------------------------------------------------------------


def test_from_scratch(context: Context) -> None:
    busybox = Path("/bin/busybox").read_bytes()
    context.write("busybox", busybox, 0o755)
    text = """FROM scratch
COPY busybox /bin/sh
WORKDIR /w
RUN echo made > x
CMD ["/bin/sh", "-c", "echo *; read a < x; echo $a; cd /; echo *"]
"""
    image = context.image(text)
    said = context.run(image).lines
    assert said[:2] == ["x", "made"]
    assert json.loads(context.tiffin("inspect", image).out)[0]["Architecture"] != ""
    layers = json.loads(context.tiffin("inspect", image).out)[0]["RootFS"]["Layers"]
    assert len(layers) == 3


def test_onbuild(context: Context) -> None:
    context.write("f", "x")
    base = f"{FROM}ONBUILD COPY f /triggered\nONBUILD RUN cp /triggered /ran\nONBUILD ENV T=1\n"
    context.build(base, "-t", "with-triggers")
    image = context.image("FROM with-triggers\nRUN cp /ran /own")
    assert context.sh(image, "cat /triggered /ran /own") == "xxx"
    config = context.config(image)
    assert "OnBuild" not in config
    assert "T=1" in config["Env"]


def test_platforms(context: Context) -> None:
    machine = os.uname().machine
    other = "arm64" if machine != "aarch64" else "amd64"
    text = (
        "FROM --platform=$BUILDPLATFORM embedded:busybox\nARG TARGETARCH\nRUN echo $TARGETARCH > /a"
    )
    image = context.image(text)
    assert context.sh(image, "cat /a").strip()
    said = context.fails(f"FROM --platform=linux/{other} embedded:busybox\n")
    assert "Dockerfile:1: FROM" in said
    assert other in said
