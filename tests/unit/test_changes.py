"""`--change`: Dockerfile instructions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.errors import UserError
from tiffin.images.changes import INSTRUCTIONS, apply


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        ('CMD ["a", "b c"]', {"Cmd": ["a", "b c"]}),
        ("cmd echo $HOME", {"Cmd": ["/bin/sh", "-c", "echo $HOME"]}),
        ("CMD=/bin/sh", {"Cmd": ["/bin/sh", "-c", "/bin/sh"]}),
        ("CMD []", {}),
        ('ENTRYPOINT ["/x"]', {"Entrypoint": ["/x"]}),
        ("ENV A=b", {"Env": ["A=b"]}),
        ("ENV A=b C='d e' F=", {"Env": ["A=b", "C=d e", "F="]}),
        ("ENV A the rest", {"Env": ["A=the rest"]}),
        ("EXPOSE 80 53/udp", {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}),
        ("EXPOSE 1-3", {"ExposedPorts": {"1/tcp": {}, "2/tcp": {}, "3/tcp": {}}}),
        ('LABEL a.b="c d" e=f', {"Labels": {"a.b": "c d", "e": "f"}}),
        ("USER ann:users", {"User": "ann:users"}),
        ("WORKDIR srv/../x", {"WorkingDir": "/x"}),
        ('VOLUME ["/data"]', {"Volumes": {"/data": {}}}),
        ("VOLUME /a /b", {"Volumes": {"/a": {}, "/b": {}}}),
        ("STOPSIGNAL SIGINT", {"StopSignal": "SIGINT"}),
        ("ONBUILD RUN x", {"OnBuild": ["RUN x"]}),
    ],
)
def test_instructions(change: str, settings: dict[str, Any]) -> None:
    assert apply({}, [change]) == settings


def test_they_add_up_and_leave_the_rest_alone() -> None:
    base = {"Env": ["A=1", "B=2"], "WorkingDir": "/srv", "Other": {"x": [1]}}
    found = apply(base, ["ENV B=3", "ENV C=4", "WORKDIR sub", "LABEL a=1", "LABEL b=2"])
    assert found == {
        "Env": ["A=1", "B=3", "C=4"],
        "WorkingDir": "/srv/sub",
        "Other": {"x": [1]},
        "Labels": {"a": "1", "b": "2"},
    }
    assert base["Env"] == ["A=1", "B=2"]


@pytest.mark.parametrize(
    "change",
    ["", "RUN x", "CMD", "ENV A", "ENV =b", "ENV A='b", "EXPOSE x", "EXPOSE 0", "EXPOSE 99999",
     "EXPOSE 9-3", "LABEL a", "STOPSIGNAL a b"],
)  # fmt: skip
def test_nonsense_is_named(change: str) -> None:
    with pytest.raises(UserError) as caught:
        apply({}, [change])
    assert "--change" in str(caught.value) and len(str(caught.value).splitlines()) == 1


@given(st.sampled_from(list(INSTRUCTIONS)), st.text(max_size=30))
def test_any_text_is_taken_or_a_user_error(name: str, value: str) -> None:
    try:
        apply({}, [f"{name} {value}"])
    except UserError as error:
        assert "--change" in str(error)
