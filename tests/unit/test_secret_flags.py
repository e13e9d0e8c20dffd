"""What `--secret` means, and which values are refused."""

from __future__ import annotations

import pytest

from tiffin.cli.secret_flags import parse
from tiffin.errors import UserError
from tiffin.options import Secret


def test_what_it_means() -> None:
    assert parse("s") == Secret("s")
    assert parse("s,type=env,target=FOO") == Secret("s", type="env", target="FOO")
    full = parse("s,target=/x/y,uid=5,gid=6,mode=0440")
    assert full == Secret("s", target="/x/y", uid=5, gid=6, mode=0o440)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",type=env",
        "s,bad=1",
        "s,type=foo",
        "s,type",
        "s,uid=-1",
        "s,uid=x",
        "s,mode=9",
        "s,mode=77777",
        "s,type=env,uid=1",
        "s,type=env,target=A=B",
        "s,target=a/b",
        "s,target=..",
        "s,target=/a/../../b",
        "s,target=/a/",
    ],
)
def test_bad_ones_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--secret"):
        parse(text)
