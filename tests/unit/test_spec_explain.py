"""`tiffin explain`: the drawing, and the same for robots."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from spec_requests import options, spec

from tiffin.hooks import Amendment, Origin
from tiffin.options import Mount
from tiffin.spec import amend, explain
from tiffin.spec.origins import leaves

ACTOR = {"uid": 0, "loginuid": 1000, "front_end": "cli", "pid": 42}
ROW = {
    "id": "ab" * 32, "name": "quiet_noether", "state": "exited", "exit_code": 3, "image": "img",
    "image_name": "localhost/img", "command": ["sh"], "storage_driver": "overlay",
    "runtime": "crun", "network": "none", "mounted": "",
}  # fmt: skip


def told(**changed: Any) -> explain.Explanation:
    parts: dict[str, Any] = {
        "container": ROW, "events": [], "layers": [], "upper": "", "mounts": [], "processes": [],
        "document": {}, "origins": {},
    }  # fmt: skip
    return explain.Explanation(**{**parts, **changed})


def widest(text: str) -> int:
    return max(map(explain._width, text.split("\n")))


def test_before_init_there_is_no_config() -> None:
    out = explain.render(told())
    assert "quiet_noether  abababababab  exited with 3" in out
    assert "not written yet" in out and "nothing of it runs" in out


def test_the_story_has_times_actors_and_what_mattered() -> None:
    events = [
        {"seq": 1, "time": 86_400 * 10**9 + 5_000_000, "type": "container.creation_planned",
         "actor": ACTOR, "data": {"image": "img", "labels": {"a": "b"}, "remove": False}},
        {"seq": 2, "time": 2 * 86_400 * 10**9, "type": "container.exited", "actor": {"uid": 7},
         "data": {"exit_code": 0}},
    ]  # fmt: skip
    out = explain.render(told(events=events))
    assert "1970-01-02 UTC" in out and "1970-01-03 UTC" in out
    assert "00:00:00.005    creation planned   uid 0 (login 1000)      image=img" in out
    assert "exit_code=0" in out and "labels" not in out


def test_layers_lie_upon_each_other() -> None:
    layers = [
        {"chain_id": "sha256:" + "11" * 32, "size": 1_500_000, "created_by": "ADD base"},
        {"chain_id": "sha256:" + "22" * 32, "size": 10, "created_by": "RUN more"},
    ]
    out = explain.render(told(layers=layers, upper="/upper"))
    assert out.index("copy-on-write") < out.index("22222222") < out.index("11111111")
    assert "1.5 MB" in out and "10 B" in out


def test_the_process_tree_hangs_off_init() -> None:
    out = explain.render(told(processes=[(1, "systemd"), (10, "conmon"), (11, "sh")]))
    assert "  systemd (1)\n  └─ conmon (10)\n     └─ sh (11)\n" in out


def test_fields_have_a_column_for_their_origin() -> None:
    made = spec({"env": (("A", "1"),), "mounts": (Mount("bind", "/mnt", "/src"),)})
    amend.apply(made.document, made.origins, "mine", [Amendment("/annotations/x", "y", "why")])
    out = explain.render(told(document=made.document, origins=made.origins))
    lines = out.splitlines()
    (row,) = [line for line in lines if "A=1" in line]
    assert row.index("user: --env") == 74
    (row,) = [line for line in lines if "FROM=image" in line]
    assert row.index("image: Env") == 74
    (row,) = [line for line in lines if "plugin mine: why" in line]
    assert row.index("plugin") == 74
    assert "user: -v /src:/mnt" in out
    assert [line for line in lines if "rules on" in line], "seccomp is summed up"


def test_nothing_of_an_image_reaches_the_terminal_raw() -> None:
    """CWE-150: an escape sequence in a name or command could rewrite what is seen."""
    nasty = "\x1b[2J\r\x07\u202e\n\x9b"
    made = spec(config={"Cmd": [nasty], "Env": [f"A={nasty}"]})
    out = explain.render(
        told(
            container={**ROW, "name": nasty, "command": [nasty]},
            events=[
                {"time": 0, "type": f"container.{nasty}", "actor": ACTOR, "data": {"a": nasty}}
            ],
            layers=[{"chain_id": nasty, "size": 1, "created_by": nasty}],
            upper=nasty,
            mounts=[nasty],
            processes=[(1, nasty)],
            document=made.document,
            origins={**made.origins, "/hostname": Origin("user", nasty)},
        )
    )
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "\\x1b[2J" in out
    assert widest(out) <= explain.WIDTH


@settings(max_examples=40)
@given(options, st.text(max_size=300))
def test_it_is_never_wider_than_a_hundred_columns(chosen: dict[str, Any], text: str) -> None:
    made = spec(chosen, {"Cmd": ["x", text.replace("\0", "")]}, init_program="/i")
    shown = told(
        container={**ROW, "name": text, "image_name": text},
        events=[{"time": 1, "type": "container.started", "actor": ACTOR, "data": {"x": text}}],
        layers=[{"chain_id": text, "size": 1, "created_by": text}],
        processes=[(n, text) for n in range(60)],
        mounts=[text],
        document=made.document,
        origins=made.origins,
    )
    assert widest(explain.render(shown)) <= explain.WIDTH


def test_for_robots_every_field_has_its_origin() -> None:
    made = spec({"env": (("A", "1"),)})
    shown = told(document=made.document, origins=made.origins, processes=[(1, "in\udcffit")])
    plain = json.loads(json.dumps(explain.to_plain(shown)))
    assert plain["processes"] == [{"pid": 1, "name": "in\\udcffit"}]
    known = {entry["field"]: entry["source"] for entry in plain["config"]}
    expected = {p for p, _ in leaves(made.document) if not p.startswith("/linux/seccomp/")}
    assert set(known) == expected | {"/linux/seccomp"}
    assert set(known.values()) == {"image", "user", "engine"}
