"""Which ids a container has: flags, ranges, and the choice of a free one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.errors import UserError
from tiffin.hooks import IdMaps, IdRange
from tiffin.options import ContainerOptions
from tiffin.spec import idmaps


def options(**chosen: object) -> ContainerOptions:
    return ContainerOptions(image="x", **chosen)  # type: ignore[arg-type]


def test_one_map_is_for_users_and_groups() -> None:
    maps = idmaps.given(options(uid_maps=("0:1000:10", "10:5000")))
    assert maps.uids == maps.gids == (IdRange(0, 1000, 10), IdRange(10, 5000, 1))
    maps = idmaps.given(options(uid_maps=("0:1000:10",), gid_maps=("0:7:1",)))
    assert maps.gids == (IdRange(0, 7, 1),)


@pytest.mark.parametrize(
    ("maps", "says"),
    [
        (("0:1:0",), "0 ids"),
        (("0:1:2:3",), "no range"),
        (("0",), "no range"),
        (("0:-1:2",), "not an id"),
        (("0:4294967295:1",), "not an id"),
        (("0:4294967290:10",), "above"),
        (("1:1000:5",), "uid 0"),
        (("0:1000:5", "4:2000:5"), "uid 4 in the container"),
        (("0:1000:5", "5:1004:5"), "uid 1004 on the host"),
        (("0:0:1", *(f"{n}:{n}:1" for n in range(1, 400))), "ranges"),
    ],
)
def test_bad_maps_are_refused_by_name(maps: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        idmaps.given(options(uid_maps=maps))


@pytest.mark.parametrize(
    "userns",
    ["bad", "auto:size=x", "auto:color=3", "keep-id:size=3", "nomap:x", "ns:", "container:"],
)
def test_a_bad_mode_is_refused(userns: str) -> None:
    with pytest.raises(UserError, match="--userns"):
        idmaps.mode(options(userns=userns))


def test_what_does_not_go_together() -> None:
    for chosen in (
        {"userns": "auto", "uid_maps": ("0:1:1",)},
        {"userns": "host", "subuid_name": "x"},
        {"subuid_name": "x", "uid_maps": ("0:1:1",)},
        {"userns": "private"},
    ):
        with pytest.raises(UserError):
            idmaps.mode(options(**chosen))
    assert idmaps.mode(options()) == idmaps.mode(options(userns="host")) == ""
    assert idmaps.mode(options(userns="private", uid_maps=("0:1:1",))) == "maps"
    assert idmaps.mode(options(userns="auto:size=5,uidmapping=0:1000:1")) == "auto"


def test_subordinate_ranges_by_name_or_number() -> None:
    text = "a:100:5\nb:200:5\n\n# c\na:300:x\n7:400:5\na:500:1:2\na:4294967290:99\n a:600:6 \n"
    assert idmaps.subordinate(text, "a") == [IdRange(0, 100, 5), IdRange(0, 600, 6)]
    assert idmaps.subordinate(text, "z", 7) == [IdRange(0, 400, 5)]
    assert idmaps.joined(idmaps.subordinate(text, "a")) == (
        IdRange(0, 100, 5),
        IdRange(5, 600, 6),
    )


def test_an_image_s_owner_there_and_back() -> None:
    ranges = (IdRange(0, 1000, 10), IdRange(10, 5000, 1))
    assert [idmaps.to_host(ranges, n) for n in (0, 9, 10, 11)] == [1000, 1009, 5000, None]
    assert [idmaps.to_container(ranges, n) for n in (1000, 5000, 0)] == [0, 10, None]


RANGES = st.lists(
    st.builds(IdRange, st.just(0), st.integers(0, 200), st.integers(1, 40)), max_size=8
)


@given(pool=RANGES, taken=RANGES, size=st.integers(1, 60))
def test_a_free_range_is_in_the_pool_and_nobody_s(
    pool: list[IdRange], taken: list[IdRange], size: int
) -> None:
    busy = {n for one in taken for n in range(one.outside, one.outside + one.size)}
    starts = [
        start
        for one in pool
        for start in range(one.outside, one.outside + one.size - size + 1)
        if not busy.intersection(range(start, start + size))
    ]
    assert idmaps.free(pool, taken, size) == min(starts, default=None)


@given(
    fixed=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=4),
    size=st.integers(1, 40),
)
def test_auto_goes_around_what_is_fixed(fixed: list[tuple[int, int]], size: int) -> None:
    ranges: list[IdRange] = []
    for number, (inside, length) in enumerate(fixed):
        if all(inside + length <= r.inside or r.inside + r.size <= inside for r in ranges):
            ranges.append(IdRange(inside, 9000 + 100 * number, length))
    found = idmaps.around(ranges, 1000, size)
    idmaps.check(IdMaps(found, found), "x")
    for inside in range(size):
        outside = idmaps.to_host(found, inside)
        wanted = idmaps.to_host(ranges, inside)
        assert outside is not None
        assert outside == wanted if wanted is not None else 1000 <= outside < 1000 + size
