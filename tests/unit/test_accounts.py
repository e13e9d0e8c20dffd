"""Who the user of a container is when its image does not know it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.spec import accounts, users

PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/false\n"
GROUP = "root:x:0:\nweb:x:33:\n"


def test_a_user_who_has_a_name_changes_nothing() -> None:
    for wanted in ("", "root", "web", "33", "0:0"):
        user, files = accounts.settle(wanted, PASSWD, GROUP)
        assert user == users.resolve(wanted, PASSWD, GROUP)
        assert files == {}


def test_a_number_gets_a_name_and_its_working_directory_as_home() -> None:
    user, files = accounts.settle("1234", PASSWD, GROUP, home="/tmp")
    assert (user.uid, user.gid, user.home) == (1234, 0, "/tmp")
    assert files == {"/etc/passwd": f"{PASSWD}1234:*:1234:0:container user:/tmp:/bin/sh\n"}


def test_so_does_a_group_that_the_image_does_not_have() -> None:
    _, files = accounts.settle("33:55", PASSWD, GROUP)
    assert files == {"/etc/group": f"{GROUP}55:x:55:33\n"}


def test_the_line_may_be_the_users_own() -> None:
    _, files = accounts.settle("7:8", PASSWD, GROUP, entry="me:*:$UID:$GID:$NAME of $USERNAME:$X:")
    assert files["/etc/passwd"].endswith("\nme:*:7:8:container user of 7:$X:\n")


def test_users_of_the_host_can_be_asked_for_and_never_replace_one_of_the_image() -> None:
    lines = ("root:*:5:5:::/", "man:*:6:12:man:/var/cache/man:/bin/sh")
    user, files = accounts.settle("man", PASSWD, GROUP, host_users=lines)
    assert (user.uid, user.gid, user.home) == (6, 12, "/var/cache/man")
    assert files["/etc/passwd"] == f"{PASSWD}{lines[1]}\n"
    assert accounts.settle("root", PASSWD, GROUP, host_users=lines)[0].uid == 0


@pytest.mark.parametrize(("passwd", "group"), [("", ""), ("", GROUP)])
def test_an_image_without_such_a_file_keeps_none(passwd: str, group: str) -> None:
    user, files = accounts.settle("1234:0", passwd, group)
    assert user.uid == 1234
    assert files == {}


@given(st.text(max_size=200), st.text(max_size=200), st.integers(1, 70000))
def test_what_was_in_the_files_stays(passwd: str, group: str, uid: int) -> None:
    user, files = accounts.settle(f"{uid}:{uid}", passwd, group)
    assert user.uid == uid
    for place, before in (("/etc/passwd", passwd), ("/etc/group", group)):
        if place in files:
            assert files[place].startswith(before)
            assert files[place].endswith("\n")
            assert "\n" not in files[place][len(before) :].strip("\n")
