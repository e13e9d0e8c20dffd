"""Sizes, durations and times as people write and read them. Pure, standard library only.

Sizes follow docker and podman: what is read is binary (`512m` is 512 MiB), what is printed is
decimal (`1.2MB`). Times are nanoseconds since 1970, UTC.
"""

from __future__ import annotations

from .errors import UserError

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import re

SECOND = 1_000_000_000

_SIZE = r"(?ai)(\d+(?:\.\d+)?|\.\d+) ?([bkmgtp]?)(?:i?b)?\Z"
_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}

LONGEST = 100
"""Characters of a size or duration: int() takes no more than some thousands of digits."""
_PART = r"(?a)(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)"
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}

_RFC3339 = (
    r"(?a)(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?"
    r"(Z|z|[+-]\d\d:\d\d)?)?\Z"
)
_UNIX = r"(?a)(\d{1,18})(?:\.(\d{1,9})\d*)?\Z"


def _pattern(text: str) -> re.Pattern[str]:
    """Compiled when first used: what only prints (`ps`) need not pay the 3 ms of `re`."""
    import re

    return re.compile(text)


def parse_size(text: str, what: str = "size") -> int:
    """Bytes of `512m`, `1.5g`, `64KiB`, `100` (no unit: bytes). Error: UserError."""
    match = _pattern(_SIZE).match(text.strip())
    if match is None or len(text) > LONGEST:
        raise UserError(f"{what} {text!r} is not a size", hint="write 100, 64k, 512m or 2g")
    number, unit = match.groups()
    scale: int = 1024 ** _POWERS[unit.lower()]
    whole, _, fraction = number.partition(".")
    size = int(whole or 0) * scale
    if fraction:
        size += int(fraction) * scale // 10 ** len(fraction)
    if size >= 1 << 63:
        raise UserError(f"{what} {text!r} is too large")
    return size


def parse_duration(text: str, what: str = "duration") -> int:
    """Nanoseconds of a Go duration: `1h30m`, `1.5s`, `300ms`, `-10m`, `0`. Error: UserError."""
    body = text.strip()
    sign = 1
    if body[:1] in ("-", "+"):
        sign = -1 if body[0] == "-" else 1
        body = body[1:]
    if body == "0":
        return 0
    total = 0
    position = 0
    part = _pattern(_PART)
    while len(body) <= LONGEST and (match := part.match(body, position)):
        whole, _, fraction = match[1].partition(".")
        unit = _UNITS[match[2]]
        total += int(whole or 0) * unit
        if fraction:
            total += int(fraction) * unit // 10 ** len(fraction)
        position = match.end()
    if not body or position != len(body) or len(body) > LONGEST:
        raise UserError(f"{what} {text!r} is not a duration", hint="write 10s, 5m or 1h30m")
    return sign * total


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar; importing datetime costs more."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def _local_seconds(fields: tuple[int, int, int, int, int, int]) -> int:
    from time import mktime

    return int(mktime((*fields, 0, 0, -1)))


def parse_rfc3339(text: str) -> int:
    """Nanoseconds of `2026-11-25T07:41:08.5+01:00`, of `2026-11-25` or `2026-11-25T07:41`; without
    an offset it is local time. Error: ValueError."""
    match = _pattern(_RFC3339).match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time")
    year, month, day, hour, minute, second = (int(group or 0) for group in match.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        raise ValueError(f"{text!r} is not a time")
    offset = match[8]
    if offset is None:
        seconds = _local_seconds((year, month, day, hour, minute, second))
    else:
        seconds = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
        if offset not in ("Z", "z"):
            shift = int(offset[1:3]) * 3600 + int(offset[4:6]) * 60
            seconds -= -shift if offset[0] == "-" else shift
    return seconds * SECOND + int((match[7] or "0").ljust(9, "0"))


def parse_time(text: str, now: int, what: str = "time") -> int:
    """Nanoseconds since 1970 of what `--since` and `--until` take: RFC 3339, seconds since 1970
    (`1700000000.5`), or a Go duration before `now`. Error: UserError."""
    body = text.strip()
    if match := _pattern(_UNIX).match(body):
        return int(match[1]) * SECOND + int((match[2] or "0").ljust(9, "0"))
    try:
        return parse_rfc3339(body)
    except (ValueError, OverflowError):
        pass  # then it must be a duration
    try:
        return now - parse_duration(body)
    except UserError:
        raise UserError(
            f"{what} {text!r} is not a time",
            hint="write 10m, 2026-01-31T12:00:00Z or seconds since 1970",
        ) from None


def human_size(size: int, *, space: str = "") -> str:
    """Three significant digits, decimal units: `1.23MB`, `0B`; `space` goes before the unit."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB", "PB", "EB"):
        text = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
        if float(text) < 1000 or unit == "EB":
            break
        value /= 1000
    return f"{text}{space}{unit}"


def human_size_binary(size: int, *, space: str = "") -> str:
    """Four significant digits, binary units: `1.5MiB`, as `stats` prints memory."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        text = f"{value:.0f}" if value >= 1000 else f"{value:.4g}"
        if float(text) < 1024 or unit == "EiB":
            break
        value /= 1024
    return f"{text}{space}{unit}"


def human_duration(nanoseconds: int) -> str:
    """`2 hours`, `About a minute`, `3 weeks`: the words that podman and docker use."""
    seconds = max(0, nanoseconds) // SECOND
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    minutes = seconds // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = (seconds + 1800) // 3600
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, length, name in ((14, 1, "days"), (60, 7, "weeks"), (730, 30, "months")):
        if hours < 24 * limit:
            return f"{hours // (24 * length)} {name}"
    return f"{hours // (24 * 365)} years"


def human_ago(then: int, now: int) -> str:
    """`2 hours ago`."""
    return f"{human_duration(now - then)} ago"
