"""What a build decides before it does anything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.build import keys, plan, state
from tiffin.build.mounts import parse as parse_mounts
from tiffin.dockerfile.parser import parse
from tiffin.engine.build_steps import mount_points
from tiffin.errors import UserError
from tiffin.images.platform import Platform

PLATFORMS = plan.platform_arguments(Platform("arm64", "linux", "v8"), Platform("amd64"))


def planned(text: str, target: str = "", **build_args: str) -> plan.BuildPlan:
    return plan.plan(parse(text, "D"), build_args=build_args, platforms=PLATFORMS, target=target)


def settled(text: str, base: dict[str, Any] | None = None, **build_args: str) -> state.State:
    """After the last instruction of the last stage."""
    build = planned(text, **build_args)
    now = state.begin(base or {}, build)
    for instruction in build.stages[-1].stage.instructions:
        now = state.apply(now, instruction)
    return now


STAGES = """
FROM a AS base
FROM base AS left
FROM base AS right
FROM unused AS other
FROM scratch
COPY --from=left /l /
COPY --from=1 /l /
RUN --mount=from=right,target=/r true
"""


def test_only_needed_stages_are_built_and_wait_for_each_other() -> None:
    found = planned(STAGES)
    assert [one.stage.name for one in found.stages] == ["base", "left", "right", ""]
    assert [sorted(one.waits) for one in found.stages] == [[], [0], [0], [1, 2]]
    assert [one.position for one in found.stages] == [1, 2, 3, 4]
    assert [one.stage.name for one in planned(STAGES, "right").stages] == ["base", "right"]
    assert [one.stage.name for one in planned(STAGES, "0").stages] == ["base"]
    with pytest.raises(UserError, match="--target nope: D has no such stage"):
        planned(STAGES, "nope")
    with pytest.raises(UserError, match="D:2: COPY: from=1: there is no such stage"):
        planned("FROM a\nCOPY --from=1 a b")


def test_global_arguments() -> None:
    text = "ARG V=1\nARG I=img:$V\nFROM --platform=$BUILDPLATFORM $I AS x\nFROM ${NO:-y}\nARG V\n"
    assert planned(text, "x").stages[0].base == "img:1"
    assert planned(text, "x").stages[0].platform == "linux/amd64"
    assert planned(text, V="2", W="3", HTTP_PROXY="p").unused == ("W",)
    assert planned(text).stages[-1].base == "y"
    with pytest.raises(UserError, match=r"D:1: FROM: \$NONE is empty"):
        planned("FROM $NONE")


def test_arguments_of_a_stage() -> None:
    text = 'ARG V=1\nFROM a\nARG V\nARG W=$V-x\nARG TARGETARCH\nENV E=${W} V=env\nLABEL l="$V $E"'
    now = settled(text)
    assert now.arguments == {"V": "1", "W": "1-x", "TARGETARCH": "arm64"}
    assert now.env == {"E": "1-x", "V": "env"}
    assert now.settings["Labels"] == {"l": "env 1-x"}, "ENV goes before ARG"
    assert settled(text, V="2").arguments["W"] == "2-x"
    assert settled("FROM a\nLABEL l=$V", V="2").settings["Labels"] == {"l": ""}, "needs an ARG"


BASE = {"Env": ["PATH=/bin"], "Cmd": ["sh"], "OnBuild": ["RUN x"], "Entrypoint": ["/e"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CMD a b", {"Cmd": ["/bin/sh", "-c", "a b"]}),
        ('CMD ["a", "b"]', {"Cmd": ["a", "b"]}),
        ('ENTRYPOINT ["x"]', {"Entrypoint": ["x"], "Cmd": None}),
        ('CMD ["a"]\nENTRYPOINT ["x"]', {"Entrypoint": ["x"], "Cmd": ["a"]}),
        ("ENTRYPOINT []", {"Entrypoint": None, "Cmd": None}),
        ('SHELL ["/b", "-c"]\nCMD a', {"Shell": ["/b", "-c"], "Cmd": ["/b", "-c", "a"]}),
        ("ENV A=1 PATH=$PATH:/x", {"Env": ["PATH=/bin:/x", "A=1"]}),
        ("ENV A=1 B=$A", {"Env": ["PATH=/bin", "A=1", "B="]}),
        ("EXPOSE 80 443/tcp 53/udp", {"ExposedPorts": {"80/tcp": {}, "443/tcp": {}, "53/udp": {}}}),
        ("ARG P=8\nEXPOSE ${P}0", {"ExposedPorts": {"80/tcp": {}}}),
        ('VOLUME ["/a b"]\nVOLUME /c /d', {"Volumes": {"/a b": {}, "/c": {}, "/d": {}}}),
        ("USER a:b", {"User": "a:b"}),
        ("WORKDIR /a\nWORKDIR b/../c", {"WorkingDir": "/a/c"}),
        ("WORKDIR x", {"WorkingDir": "/x"}),
        ("STOPSIGNAL SIGINT", {"StopSignal": "SIGINT"}),
        ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
        (
            "HEALTHCHECK --interval=5m --retries=2 CMD curl x",
            {"Healthcheck": {"Test": ["CMD-SHELL", "curl x"], "Interval": 300 * 10**9,
                             "Retries": 2}},
        ),
        ('HEALTHCHECK CMD ["a"]', {"Healthcheck": {"Test": ["CMD", "a"]}}),
        ("ONBUILD RUN a\nONBUILD COPY b c", {"OnBuild": ["RUN a", "COPY b c"]}),
    ],
)  # fmt: skip
def test_settings(text: str, expected: dict[str, Any]) -> None:
    found = settled(f"FROM a\n{text}", BASE).settings
    whole = {key: value for key, value in BASE.items() if key != "OnBuild"} | expected
    assert found == {key: value for key, value in whole.items() if value not in (None, [])}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("EXPOSE x", "D:2: EXPOSE: 'x' is not a port"),
        ("ENV A=${", "D:2: ENV: bad substitution"),
        ("STOPSIGNAL a b", "D:2: STOPSIGNAL: 'a b' is not a signal"),
        ("USER $NONE", "D:2: USER: the user is empty"),
        ("WORKDIR $NONE", "D:2: WORKDIR: the directory is empty"),
        ("HEALTHCHECK --interval=x CMD a", "D:2: HEALTHCHECK: --interval=x"),
        ("HEALTHCHECK --retries=x CMD a", "D:2: HEALTHCHECK: --retries=x"),
    ],
)
def test_bad_settings_name_the_line(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        settled(f"FROM a\n{text}")
    assert str(caught.value).startswith(says)


def test_history_is_written_as_podman_does() -> None:
    build = planned('FROM a\nARG V=1\nRUN echo $V\nRUN ["a", "b"]\nCMD ["x"]')
    arg, run, execute, cmd = build.stages[0].stage.instructions
    now = state.apply(state.begin({}, build), arg)
    assert state.created_by(now, run) == "|1 V=1 /bin/sh -c echo $V"
    assert state.created_by(now, execute) == "|1 V=1 a b"
    assert state.created_by(now, cmd) == '/bin/sh -c #(nop) CMD ["x"]'


def test_mounts_of_run() -> None:
    text = (
        "FROM a\nRUN --mount=type=cache,target=/c,sharing=locked,mode=0700 "
        "--mount=type=secret,id=s,required --mount=src=d,dst=e,rw --mount=type=tmpfs,target=/t,"
        "size=64m true"
    )
    cache, secret, bind, tmpfs = parse_mounts(
        planned(text).stages[0].stage.instructions[0], lambda text: text
    )
    assert (cache.sharing, cache.mode, cache.writable) == ("locked", 0o700, True)
    assert (secret.target, secret.required, secret.mode) == ("/run/secrets/s", True, 0o400)
    assert (bind.type, bind.source, bind.target, bind.writable) == ("bind", "d", "e", True)
    assert tmpfs.size == 64 << 20


@pytest.mark.parametrize(
    ("mount", "says"),
    [
        ("type=ssh", "type 'ssh' is not supported"),
        ("type=bind", "target= is missing"),
        ("type=secret", "id= is missing"),
        ("type=cache,target=/x,sharing=y", "sharing=y"),
        ("type=tmpfs,target=/x,from=y", "tmpfs has no option 'from'"),
        ("type=tmpfs,target=/x,size=y", "D:2: RUN: --mount="),
        ("type=cache,target=/x,uid=y", "'y' is not a number"),
    ],
)
def test_bad_mounts_name_the_line(mount: str, says: str) -> None:
    instruction = planned(f"FROM a\nRUN --mount={mount} x").stages[0].stage.instructions[0]
    with pytest.raises(UserError) as caught:
        parse_mounts(instruction, lambda text: text)
    assert says in str(caught.value)
    assert str(caught.value).startswith("D:2: RUN: ")


@given(st.text(), st.text(), st.text(), st.dictionaries(st.text(), st.text(min_size=1)))
def test_a_key_depends_on_all_that_it_is_told(
    parent: str, what: str, other: str, more: dict[str, str]
) -> None:
    one = keys.key(parent, what, more=more)
    assert one == keys.key(parent, what, more=dict(reversed(more.items())))
    if other != what:
        assert one != keys.key(parent, other, more=more)
    if other != parent:
        assert one != keys.key(other, what, more=more)
    assert one != keys.key(parent, what, more=more, time=0)
    assert keys.key(parent, what, time=0) != keys.key(parent, what, time=None)


def test_places_that_were_made_to_mount_something_are_no_part_of_a_layer() -> None:
    changed = {
        "/etc": "C", "/etc/resolv.conf": "A", "/run": "A", "/run/secrets": "A",
        "/run/secrets/x": "A", "/cache": "A", "/cache/kept": "A", "/was": "C",
    }  # fmt: skip
    gone = mount_points(changed, ["/etc/resolv.conf", "/run/secrets/x", "/cache", "/was"])
    assert gone == {b"etc/resolv.conf", b"run", b"run/secrets", b"run/secrets/x"}
