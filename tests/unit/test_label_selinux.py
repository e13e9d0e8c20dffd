"""The parts of the label provider `selinux` that need no SELinux."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiffin.errors import DriverError, UserError
from tiffin.hooks import DriverContext, LabelRequest, Labels
from tiffin_label_selinux import contexts, files, mcs, wishes
from tiffin_label_selinux.driver import SELinux, decide

LXC = """\
process = "system_u:system_r:container_t:s0"
content = "system_u:object_r:virt_var_lib_t:s0"
file = "system_u:object_r:container_file_t:s0"
ro_file="system_u:object_r:container_ro_file_t:s0"
"""
POLICY = contexts.parse_lxc_contexts(LXC)
REQUEST = LabelRequest(container="ab" * 32)
indexes = st.integers(0, mcs.PAIRS - 1)


def decided(
    *options: str, start: int = 0, request: LabelRequest = REQUEST
) -> tuple[contexts.Context, contexts.Context]:
    """The process's and the files' context."""
    labels = decide(POLICY, wishes.parse(options), request, start)
    return contexts.parse(labels.process_label), contexts.parse(labels.mount_label)


# --- the policy's files ---------------------------------------------------------------------------


def test_lxc_contexts_of_a_policy() -> None:
    assert str(POLICY.process) == "system_u:system_r:container_t:s0"
    assert str(POLICY.shared) == "system_u:object_r:container_ro_file_t:s0"
    assert POLICY.file == contexts.Context("system_u", "object_r", "container_file_t", "s0")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'process'"),
        ('process = "a:b:c"', "'file'"),
        ('process = "nonsense"\nfile = "a:b:c"', "not enough|unpack"),
        ('process = "a:b: "\nfile = "a:b:c"', "not a security context"),
    ],
)
def test_a_broken_lxc_contexts_is_named(tmp_path: Path, text: str, says: str) -> None:
    place = tmp_path / "targeted/contexts"
    place.mkdir(parents=True)
    (place / "lxc_contexts").write_text(text)
    with pytest.raises(DriverError, match=f"lxc_contexts: .*({says})"):
        contexts.load(str(tmp_path / "config"), str(tmp_path))


def test_a_policy_without_containers_is_told(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("# SELINUXTYPE=no\nSELINUX=enforcing\nSELINUXTYPE = mls \n")
    with pytest.raises(DriverError, match="mls/contexts/lxc_contexts: No such file"):
        contexts.load(str(tmp_path / "config"), str(tmp_path))


@pytest.mark.parametrize("text", ["SELINUXTYPE=../../tmp", "SELINUXTYPE=..", "SELINUXTYPE=", ""])
def test_the_policys_name_is_one_directory(text: str) -> None:
    assert contexts.policy_name(text) == "targeted"


@given(st.text(max_size=40))
def test_any_context_is_parsed_or_refused(text: str) -> None:
    try:
        assert str(contexts.parse(text)) == text.removesuffix(":")
    except ValueError:
        return


# --- categories -----------------------------------------------------------------------------------


@given(indexes)
def test_every_index_is_a_pair_of_its_own(index: int) -> None:
    low, high = mcs.pair_at(index)
    assert 0 <= low < high < mcs.CATEGORIES
    assert high * (high - 1) // 2 + low == index


def test_the_reserved_pair_is_one_of_them() -> None:
    assert mcs.pair_at(mcs.PAIRS - 1) == mcs.RESERVED


@given(st.sets(indexes, max_size=40), indexes)
def test_a_chosen_pair_is_free(taken: set[int], start: int) -> None:
    pairs = {mcs.pair_at(index) for index in taken}
    chosen = mcs.choose(pairs, start)
    assert chosen not in pairs and chosen != mcs.RESERVED


def test_the_last_free_pair_is_found_and_then_there_is_none() -> None:
    every = {mcs.pair_at(index) for index in range(mcs.PAIRS)}
    assert mcs.choose(every - {(3, 9)}, 500_000) == (3, 9)
    with pytest.raises(DriverError, match="every pair"):
        mcs.choose(every - {mcs.RESERVED}, 7)


@settings(max_examples=30, deadline=None)
@given(st.lists(indexes, min_size=2, max_size=30))
def test_containers_of_a_store_have_different_pairs(starts: list[int]) -> None:
    """Whatever the random numbers are, each container knows what the others have."""
    labels: list[Labels] = []
    for start in starts:
        taken = tuple(each.process_label for each in labels)
        request = LabelRequest(container="c", taken=taken)
        labels.append(decide(POLICY, wishes.Wishes(), request, start))
    assert len({each.claim for each in labels}) == len(starts)
    assert all(each.mount_label.endswith(each.claim) for each in labels)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("s0", True),
        ("s0:c1,c2", True),
        ("s0-s0:c0.c1023", True),
        ("s0:c1.c3,c7", True),
        ("s0:c1024", False),
        ("s0:c1,", False),
        ("c1,c2", False),
        ("s0-s0-s0", False),
        ("s0:c1 ", False),
        ("", False),
    ],
)
def test_levels(text: str, good: bool) -> None:
    assert mcs.is_level(text) is good


def test_a_level_chosen_by_another_user_is_not_given_to_the_next() -> None:
    request = LabelRequest(container="c", taken=("u:r:t:s0:c1,c0", "u:r:t:s0:c0.c9"))
    assert decided(start=0, request=request)[0].level == "s0:c0,c2"


# --- what is asked for ----------------------------------------------------------------------------


def test_a_container_gets_the_policys_types_and_a_claim() -> None:
    process, file = decided(start=5)
    assert (process.type, process.level) == ("container_t", "s0:c2,c3")
    assert (file.type, file.level) == ("container_file_t", "s0:c2,c3")


def test_each_part_can_be_chosen() -> None:
    process, file = decided(
        "user:a_u", "role:b_r", "type:c_t", "filetype:d_t", "level:s0:c5,c6", "type:e_t"
    )
    assert str(process) == "a_u:b_r:e_t:s0:c5,c6"
    assert str(file) == "a_u:object_r:d_t:s0:c5,c6"
    assert decide(POLICY, wishes.parse(["level:s0:c5,c6"]), REQUEST, 0).claim == ""


@pytest.mark.parametrize(
    ("options", "request_"),
    [
        (("type:a_t", "disable"), REQUEST),
        (("type:a_t",), LabelRequest(container="c", privileged=True)),
        (("level:s0:c1,c2",), LabelRequest(container="c", host_namespaces=True)),
    ],
)
def test_without_separation_files_are_nobody_elses(
    options: tuple[str, ...], request_: LabelRequest
) -> None:
    labels = decide(POLICY, wishes.parse(options), request_, 3)
    assert labels.process_label == "" and labels.claim == ""
    assert labels.mount_label == "system_u:object_r:container_file_t:s0:c1022,c1023"


@pytest.mark.parametrize(
    "option",
    ["", "x", "type", "type:", "type:a b", "level:", "level:s0:c9999", "disable:", "colour:red",
     "type:a:b", "user:a\n"],
)  # fmt: skip
def test_a_wish_that_is_none_is_named(option: str) -> None:
    with pytest.raises(UserError) as caught:
        wishes.parse(["nested", option])
    assert f"label={option}" in str(caught.value)


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/etc/", "/usr/../usr", "/home", "/home/ann", "/ann"]
)
def test_places_of_the_system_are_refused(path: str) -> None:
    with pytest.raises(UserError, match="must not be relabelled"):
        files.check(path, "/ann")


def test_a_link_to_a_place_of_the_system_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(UserError, match=r"link \(/etc\)"):
        files.check(str(tmp_path / "link"))
    files.check(str(tmp_path))
    files.check("/srv/data")


def test_what_is_opened_is_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it came there: a link that was put in place after the first look."""
    monkeypatch.setattr(files, "_one", lambda *a, **k: pytest.fail("relabelled"))
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(UserError, match=r"link \(/etc\) must not"):
        files.relabel(str(tmp_path / "link"), "u:r:t:s0")


def test_relabelling_stays_in_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an attribute that any file system here can hold, as root of links as well."""
    if os.geteuid() != 0:
        pytest.skip("links have trusted.* attributes, which only root may set")
    monkeypatch.setattr(files, "ATTRIBUTE", "trusted.tiffin-test")
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    (tree / "a/b").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").touch()
    (tree / "a/file").touch()
    os.mkfifo(tree / "a/fifo")
    (tree / "link").symlink_to(outside)
    (tree / "a/b/gone").symlink_to("/nowhere")
    files.relabel(str(tree), "u:r:t:s0")

    def has(path: Path) -> bool:
        return "trusted.tiffin-test" in os.listxattr(path, follow_symlinks=False)

    assert all(has(path) for path in (tree, *tree.rglob("*")))
    assert not has(outside) and not has(outside / "secret")
    value = os.getxattr(tree / "a/file", "trusted.tiffin-test")
    assert value == b"u:r:t:s0\0"
    files.relabel(str(outside / "secret"), "u:r:t:s0")
    assert has(outside / "secret")


def test_a_tree_deeper_than_a_path_may_be_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ATTRIBUTE", "user.tiffin-test")
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("d" * 40, dir_fd=fd)
        below = os.open("d" * 40, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    files.relabel(str(tmp_path), "u:r:t:s0")
    assert os.getxattr(fd, "user.tiffin-test") == b"u:r:t:s0\0"
    os.close(fd)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="nothing: No such file"):
        files.relabel(str(tmp_path / "nothing"), "u:r:t:s0")


def test_mounts_in_a_tree_can_be_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev has other file systems in it everywhere; nothing of it is written here."""
    seen: list[str] = []
    monkeypatch.setattr(files, "_one", lambda place, data, shown, follow: seen.append(shown))
    monkeypatch.setattr(files, "KEPT", frozenset())
    files.relabel("/dev", "u:r:t:s0", mounts=False)
    assert "/dev/null" in seen
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/")) for path in seen)
    assert "/dev/pts" not in seen
    files.relabel("/dev", "u:r:t:s0")
    assert "/dev/pts/ptmx" in seen


async def test_layers_are_labelled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ATTRIBUTE", "user.tiffin-test")
    monkeypatch.setattr(contexts, "load", lambda: POLICY)
    layers = tmp_path / "layers"
    (layers / "one").mkdir(parents=True)
    provider = SELinux(DriverContext(root=str(tmp_path / "own"), run=str(tmp_path / "run")))
    await provider.share(str(layers))
    assert files.label(str(layers / "one")) == str(POLICY.shared)
    (layers / "two").mkdir()  # the kernel makes it inherit; this attribute does not
    await provider.share(str(layers))
    assert files.label(str(layers / "two")) == ""
    os.removexattr(layers, "user.tiffin-test")  # somebody gave it the label of the policy
    await provider.share(str(layers))
    assert files.label(str(layers / "two")) == str(POLICY.shared)


async def test_a_shared_label_has_no_categories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ATTRIBUTE", "user.tiffin-test")
    provider = SELinux(DriverContext(root=str(tmp_path), run=str(tmp_path)))
    await provider.relabel(str(tmp_path), "u:object_r:t:s0:c1,c2", shared=True)
    assert os.getxattr(tmp_path, "user.tiffin-test") == b"u:object_r:t:s0\0"
    await provider.relabel(str(tmp_path), "u:object_r:t:s0:c1,c2", shared=False)
    assert os.getxattr(tmp_path, "user.tiffin-test") == b"u:object_r:t:s0:c1,c2\0"
