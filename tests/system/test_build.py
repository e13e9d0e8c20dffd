"""`build`: images from Dockerfiles."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import invariants
from support.building import FROM, Context
from support.cli import Tiffin, eventually


@pytest.fixture
def context(shared: Tiffin, tmp_path: Path) -> Iterator[Context]:
    made = Context(shared, tmp_path)
    yield made
    assert not made.left()


def test_what_it_says(context: Context) -> None:
    text = f'{FROM}ENV A=b\nRUN echo out $A; echo err >&2; echo x > /made\nCMD ["cat", "/made"]'
    first = context.build(text, "-t", "said", "-t", "also:2")
    image = first.lines[-1]
    assert len(image) == 64
    steps = [line for line in first.lines if not line.startswith("--> ")]
    assert steps == [
        "STEP 1/4: FROM embedded:busybox",
        "STEP 2/4: ENV A=b",
        "STEP 3/4: RUN echo out $A; echo err >&2; echo x > /made",
        "out b",
        'STEP 4/4: CMD ["cat", "/made"]',
        "COMMIT said",
        "Successfully tagged localhost/said:latest",
        "Successfully tagged localhost/also:2",
        image,
    ]
    assert [line for line in first.lines if line.startswith("-->")][-1] == f"--> {image[:11]}"
    assert first.err == "err\n"
    assert context.run("said").out == "x\n"
    again = context.build(None, "-t", "said")
    assert again.lines[-1] == image
    assert sum("--> Using cache " in line for line in again.lines) == 3
    assert again.err == ""


def test_a_build_is_events(context: Context) -> None:
    context.image(f"{FROM}RUN echo events > /x\nLABEL a=b")
    events = [e for e in context.tiffin.events() if e["stream"].startswith("build/")]
    own = [e for e in events if e["stream"] == events[-1]["stream"]]
    assert [e["type"] for e in own] == [
        "build.started",
        "build.step_started",
        "build.step_finished",
        "build.step_finished",
        "build.finished",
    ]
    assert own[2]["data"]["instruction"] == "RUN echo events > /x"
    assert own[2]["data"]["layer"].startswith("sha256:")
    assert own[4]["data"]["steps"] == 2


def test_steps_images_are_hidden_and_go_with_the_image(context: Context) -> None:
    before = context.tiffin("images", "-aq").lines
    context.build(f"{FROM}ENV hidden=1\nRUN echo hidden > /x\nENV hidden=2", "-t", "hides")
    shown = context.tiffin("images", "-q").lines
    everything = context.tiffin("images", "-aq").lines
    assert len(everything) == len(before) + 3
    assert len(everything) - len(shown) >= 2
    assert context.tiffin("rmi", "hides").out.count("Deleted: ") == 3
    assert context.tiffin("images", "-aq").lines == before


def test_a_failing_run(context: Context) -> None:
    text = f"{FROM}RUN echo kept > /kept\nRUN exit 37\nRUN true"
    said = context.fails(text, code=37)
    assert 'building at STEP "RUN exit 37" ' in said
    assert "Dockerfile:3" in said
    assert "exit status 37" in said
    again = context.build(f"{FROM}RUN echo kept > /kept\nRUN true")
    assert again.out.count("Using cache") == 1, "what was done before the failure is not done again"
    last = [e for e in context.tiffin.events() if e["type"] == "build.failed"][-1]
    assert last["data"]["exit_code"] == 37


def test_stages_run_side_by_side_and_speak_in_order(context: Context) -> None:
    """Each of the two waits for the other: one after the other they would never end."""
    meet = context.directory / "meet"
    meet.mkdir()
    stage = "RUN touch /meet/{0} && until [ -e /meet/{1} ]; do sleep 0.1; done; echo said {0}\n"
    text = (
        f"{FROM.strip()} AS one\n{stage.format('a', 'b')}{FROM.strip()} AS two\n"
        f"{stage.format('b', 'a')}{FROM}COPY --from=one /etc/passwd /1\n"
        "COPY --from=two /etc/passwd /2\n"
    )
    done = context.build(text, "-v", f"{meet}:/meet", "-t", "stages")
    order = [line for line in done.lines if line.startswith(("[", "said"))]
    assert order[0].startswith("[1/3] STEP 1/2: FROM")
    assert order[2] == "said a"
    assert order[3].startswith("[2/3] STEP 1/2: FROM")
    assert order[5] == "said b"
    assert order[6].startswith("[3/3] STEP 1/3: FROM")
    assert order[-1] == "[3/3] COMMIT stages"


def test_killed(context: Context) -> None:
    context.dockerfile(f"{FROM}RUN echo killed > /k\nRUN echo running; exec sleep 1000")
    with context.tiffin.start("build", "--network=none", context.directory) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == b"running\n":
                break
        process.kill()
        process.communicate()
    assert invariants.rows(context.tiffin.root, "SELECT * FROM intents WHERE operation='build'")
    mended = context.tiffin("system", "recover").out
    assert "build " in mended
    eventually(lambda: not context.tiffin.traces())
    assert context.build(f"{FROM}RUN echo killed > /k").out.count("Using cache") == 1


def test_interrupted(context: Context) -> None:
    context.dockerfile(f"{FROM}RUN echo running; exec sleep 1000")
    with context.tiffin.start("build", "--network=none", context.directory) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == b"running\n":
                break
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
    eventually(lambda: not context.tiffin.traces())
    last = [e["type"] for e in context.tiffin.events() if e["stream"].startswith("build/")][-1]
    assert last == "build.failed"


# --- flags ----------------------------------------------------------------------------------------


def manifest(context: Context, image: str) -> dict[str, Any]:
    digest = context.tiffin.inspect(image)["Digest"].removeprefix("sha256:")
    found: dict[str, Any] = json.loads((context.tiffin.root / "blobs/sha256" / digest).read_text())
    return found


def layers(context: Context, image: str) -> list[str]:
    found: list[str] = context.tiffin.inspect(image)["RootFS"]["Layers"]
    return found


def test_arguments_and_targets(context: Context) -> None:
    text = """ARG TAG=busybox
FROM embedded:$TAG AS base
ARG WHO=nobody
RUN echo $WHO > /who
FROM base AS left
CMD ["left"]
FROM base
RUN exit 9
"""
    image = context.image(text, "--target=left", "--build-arg=WHO=me", "--build-arg=NOPE=1")
    assert context.sh(image, "cat /who") == "me\n"
    assert context.config(image)["Cmd"] == ["left"]
    warned = context.build(None, "--target=left", "--build-arg=WHO", "--build-arg=NOPE=1",
                           env={"WHO": "me"})  # fmt: skip
    assert warned.err == "[Warning] one or more build args were not consumed: [NOPE]\n"
    assert warned.lines[-1] == image, "the same arguments: from the cache"
    assert context.image(None, "--target=left") != image
    assert "no such stage (it has base, left)" in context.fails(text, "--target=right")


def test_cache_can_be_left_aside(context: Context) -> None:
    text = f"{FROM}RUN cat /proc/sys/kernel/random/uuid > /x\n"
    first = context.image(text)
    assert context.image(text) == first
    other = context.image(text, "--no-cache")
    assert other != first
    assert context.image(text) == other, "the newest of the same step counts"


def test_what_a_step_depends_on(context: Context) -> None:
    context.write("f", "1")
    text = f"{FROM}COPY f /f\nRUN true\n"
    first = context.image(text)
    os.utime(context.directory / "f", (0, 0))
    assert context.image(text) == first, "times do not count"
    context.write("f", "2")
    second = context.image(text)
    assert second != first
    context.write("f", "2", 0o755)
    assert context.image(text) not in (first, second)
    context.write("f", "1", 0o644)
    assert context.image(text) == first


def test_one_layer(context: Context) -> None:
    text = f"{FROM}RUN echo 1 > /1\nRUN echo 2 > /2 && rm /1 && rm -r /mnt\nENV A=b\n"
    base = layers(context, "embedded:busybox")
    assert len(layers(context, context.image(text))) == len(base) + 2
    squashed = context.image(text, "--squash")
    assert layers(context, squashed)[:-1] == base
    assert context.sh(squashed, "cat /2; ls -d /1 /mnt 2>/dev/null; true") == "2\n"
    everything = context.image(text, "--squash-all")
    assert len(layers(context, everything)) == 1
    assert context.sh(everything, "cat /2; ls -d /1 /mnt 2>/dev/null; true") == "2\n"
    assert "A=b" in context.config(everything)["Env"]
    assert len(layers(context, context.image(text, "--layers=false"))) == len(base) + 1


@pytest.mark.parametrize("flags", [("--format=docker",), ("--squash",)])
def test_same_input_same_image(context: Context, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Another directory, another time, no cache: every byte is the same."""
    text = f"FROM embedded:busybox AS one\nRUN mkdir -p /d/e; touch /d/f\n{FROM}"
    text += "COPY d /d\nCOPY --from=one /d /e\nRUN touch /g\nWORKDIR /w\nLABEL a=b\n"
    other = Context(context.tiffin, tmp_path / "other")
    images = []
    for one in (context, other):
        one.write("d/b", "b")
        one.write("d/a", "a")
        images.append(one.image(text, "--timestamp=1000000000", "--no-cache", *flags))
    assert images[0] == images[1]
    found = context.tiffin.inspect(images[1])
    assert found["Created"] == "2001-09-09T01:46:40Z"
    assert context.sh(images[1], "stat -c %Y /d /d/a /w /g").split() == ["1000000000"] * 4
    assert context.image(text, "--timestamp=0", *flags) != images[1]


def test_formats_labels_and_annotations(context: Context) -> None:
    text = f"{FROM}RUN echo format > /x\nLABEL kept=1\n"
    flags = ("--label=a=b c", "--label=empty", '--env=E=$x "y"', "--annotation=org.x=y")
    docker = context.image(text, "--format=docker", *flags)
    plain = context.image(text, *flags)
    for image, family in ((docker, "vnd.docker"), (plain, "vnd.oci")):
        document = manifest(context, image)
        assert family in document["mediaType"]
        assert family in document["config"]["mediaType"]
        assert all(family in layer["mediaType"] for layer in document["layers"])
        assert document["annotations"] == {"org.x": "y"}
        config = context.config(image)
        assert config["Labels"] == {"kept": "1", "a": "b c", "empty": ""}
        assert 'E=$x "y"' in config["Env"]


def test_quiet_and_iidfile(context: Context, tmp_path: Path) -> None:
    file = tmp_path / "iid"
    done = context.build(f"{FROM}RUN echo said; echo err >&2\n", "-q", f"--iidfile={file}")
    assert done.err == ""
    assert done.out == file.read_text().removeprefix("sha256:") + "\n"


def test_contexts_on_standard_input(context: Context) -> None:
    tiffin = context.tiffin
    image = tiffin("build", "-q", "-", input=f"{FROM}CMD one").word
    assert context.config(image)["Cmd"] == ["/bin/sh", "-c", "one"]
    said = tiffin("build", "-q", "-", input=f"{FROM}COPY f /f\n", code=125).err
    assert "Dockerfile:2: COPY: the build has no context" in said
    context.write("f", "from the directory")
    image = tiffin("build", "-q", "-f", "-", context.directory, input=f"{FROM}COPY f /f\n").word
    assert context.sh(image, "cat /f") == "from the directory"
    for mode in ("w", "w:gz", "w:bz2"):
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode=mode) as archive:
            for name, text in (("f", mode), ("other/File", f"{FROM}COPY f /f\n")):
                entry = tarfile.TarInfo(name)
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        image = tiffin("build", "-q", "-f", "other/File", "-", input=target.getvalue()).word
        assert context.sh(image, "cat /f") == mode


def test_files_and_names(context: Context) -> None:
    context.write("Dockerfile", f"{FROM}CMD docker\n")
    context.write("sub/other", f"{FROM}CMD other\n")
    tiffin, directory = context.tiffin, context.directory
    assert context.config(tiffin("build", "-q", directory).word)["Cmd"][-1] == "docker"
    context.write("Containerfile", f"{FROM}CMD container\n")
    assert context.config(tiffin("build", "-q", cwd=directory).word)["Cmd"][-1] == "container"
    found = tiffin("build", "-q", "-f", "sub/other", ".", cwd=directory).word
    assert context.config(found)["Cmd"][-1] == "other"
    found = tiffin("build", "-q", "-f", directory / "sub/other", "-t", "x:1", directory).word
    assert tiffin.inspect("x:1")["Id"] == found
    tiffin("rmi", "x:1")


def test_built_images_are_pulled_and_pushed_like_others(
    context: Context, registry_address: str
) -> None:
    name = f"{registry_address}/built:1"
    context.build(f"{FROM}RUN echo pushed > /x\n", "-t", name)
    context.tiffin("push", "--tls-verify=false", name)
    context.tiffin("rmi", name)
    image = context.image(f"FROM {name}\nRUN cat /x > /y\n", "--tls-verify=false")
    assert context.sh(image, "cat /y") == "pushed\n"
    assert context.image(None, "--pull", "--tls-verify=false") == image
    assert "forbids to fetch" in context.fails("FROM nowhere.invalid/x\n", "--pull=never")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--format=rpm"], "--format 'rpm' is not known (oci or docker)"),
        (["--pull=sometimes"], "--pull 'sometimes'"),
        (["--timestamp=-1"], "--timestamp -1 is not a time"),
        (["--secret=src=x"], "has no id"),
        (["--secret=id=x,src=/nonexistent"], "/nonexistent is not a file"),
        (["--build-arg==x"], "--build-arg '=x' is not of the form"),
        (["-t", "Upper"], "Upper"),
        (["-f", "nope"], "--file nope does not exist"),
        (["--network=nope"], "nope"),
        (["--memory=x"], "--memory"),
        (["--isolation=chroot"], "--isolation 'chroot' is not known"),
        (["--platform=windows/amd64"], "windows images cannot run here"),
        (["--target=nope"], "--target nope: Dockerfile has no such stage"),
        (["--ignorefile=/nonexistent"], "--ignorefile /nonexistent"),
    ],
)
def test_bad_flags(context: Context, flags: list[str], says: str) -> None:
    assert says in context.fails(f"{FROM}RUN true\n", *flags)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Dockerfile has no FROM"),
        ("FROM embedded:busybox\n\nNOPE x\n", "Dockerfile:3: unknown instruction 'NOPE'"),
        ("FROM embedded:nope\n", "Dockerfile:1: FROM: no such image: embedded:nope"),
        (f"{FROM}ENV A=$" + "{", "Dockerfile:2: ENV: bad substitution"),
        (f"{FROM}USER nobody-knows\nRUN true\n", "Dockerfile:3"),
        (f"{FROM}COPY --chown=nobody-knows Dockerfile /\n", "Dockerfile:2: COPY"),
        (f"{FROM}COPY --from=nope/x:1 a /\n", "Dockerfile:2: COPY"),
        (f"{FROM}COPY Dockerfile /bin/sh/x\n", "Dockerfile:2: COPY: /bin/sh/x in the image"),
        (f"{FROM}RUN --mount=type=bind,source=nope,target=/x true\n", "Dockerfile:2: RUN: nope"),
        (f"{FROM}RUN <<EOF\nx\n", "Dockerfile:2: the heredoc 'EOF' has no end"),
        ("\0", "Dockerfile is not a text"),
    ],
)
def test_bad_dockerfiles(context: Context, text: str, says: str) -> None:
    assert says in context.fails(text, "--pull=never")


def test_bad_contexts(context: Context) -> None:
    tiffin = context.tiffin
    tiffin.fails("build", "/nonexistent", says="the context /nonexistent does not exist")
    tiffin.fails("build", "/etc/passwd", says="the context /etc/passwd is not a directory")
    tiffin.fails("build", context.directory, says="no Containerfile or Dockerfile in")


@pytest.mark.parametrize(("storage", "runtime"), [("overlay", "crun"), ("vfs", "runc")])
def test_drivers(tiffin: Tiffin, tmp_path: Path, storage: str, runtime: str) -> None:
    context = Context(tiffin.using("--storage-driver", storage, "--runtime", runtime), tmp_path)
    context.write("d/f", "f\n")
    text = """FROM scratch AS empty
COPY d /d
FROM embedded:busybox
COPY --from=empty /d /e
RUN cat /e/f > /g && rm -r /mnt && ln /g /h
WORKDIR /w/x
ADD d/f .
RUN --mount=type=bind,from=empty,target=/m --mount=type=tmpfs,target=/t ls /m > list
"""
    image = context.image(text)
    assert context.sh(image, "cat /g /w/x/list /w/x/f; ls -d /mnt /m /t 2>&1 | grep -c 'No such'") \
        == "f\nd\nf\n3\n"  # fmt: skip
    assert context.build(None).out.count("Using cache") == 6
    assert layers(context, context.image(text, "--squash"))[:-1] == layers(
        context, "embedded:busybox"
    )
    context.fails(f"{FROM}RUN exit 3", code=3)
    assert not context.left()
