"""`build`: images from Dockerfiles."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

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
