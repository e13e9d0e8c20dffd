"""Sizes, durations and times."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin import units
from tiffin.errors import UserError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("100", 100),
        ("100b", 100),
        ("64k", 65536),
        ("64KiB", 65536),
        ("64kb", 65536),
        ("512m", 512 << 20),
        ("1.5g", 3 << 29),
        (".5k", 512),
        ("2 G", 2 << 30),
        ("1t", 1 << 40),
    ],
)
def test_sizes_are_binary(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1..5", "1 kk", "9999999999g", "１"])  # noqa: RUF001
def test_bad_sizes_are_named(text: str) -> None:
    with pytest.raises(UserError, match="memory"):
        units.parse_size(text, "memory")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("10s", 10), ("1h30m", 5400), ("1.5h", 5400), ("300ms", 0.3), ("-2m", -120)],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == round(seconds * units.SECOND)


@pytest.mark.parametrize("text", ["", "-", "10", "s", "1d", "1h 30m", "1h30"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(UserError):
        units.parse_duration(text)


@given(st.integers(0, 4_000_000_000), st.integers(0, 999_999_999))
def test_rfc3339_agrees_with_the_c_library(seconds: int, fraction: int) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    expected = seconds * units.SECOND + fraction
    assert units.parse_rfc3339(f"{stamp}.{fraction:09d}Z") == expected
    assert units.parse_rfc3339(f"{stamp}.{fraction:09d}+02:30") == expected - 9000 * units.SECOND


def test_a_time_without_offset_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TZ", "UTC-3")
    time.tzset()
    try:
        assert units.parse_time("1970-01-02", 0) == (86400 - 3 * 3600) * units.SECOND
        assert units.parse_time("1970-01-01T03:00", 5) == 0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_times_of_since() -> None:
    now = 1_000_000 * units.SECOND
    assert units.parse_time("1700000000.25", now) == 1_700_000_000_250_000_000
    assert units.parse_time("10m", now) == now - 600 * units.SECOND
    for bad in ("yesterday", "2026-13-01", "2026-01-32T00:00:00Z", ""):
        with pytest.raises(UserError, match="--since"):
            units.parse_time(bad, now, "--since")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1_234_567, "1.23MB"),
        (999_999, "1MB"),
        (12_345_678, "12.3MB"),
        (5_000_000_000, "5GB"),
    ],
)
def test_sizes_for_people_are_decimal(size: int, text: str) -> None:
    assert units.human_size(size) == text


def test_binary_sizes_for_people() -> None:
    assert units.human_size_binary(1536, space=" ") == "1.5 KiB"
    assert units.human_size(2_000_000, space=" ") == "2 MB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (150, "2 minutes"),
        (3600, "About an hour"),
        (7000, "2 hours"),
        (3 * 86400, "3 days"),
        (20 * 86400, "2 weeks"),
        (100 * 86400, "3 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_ages_for_people(seconds: int, text: str) -> None:
    assert units.human_duration(seconds * units.SECOND) == text
    assert units.human_ago(0, seconds * units.SECOND) == text + " ago"
