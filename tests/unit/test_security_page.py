"""docs/security.md promises a test for each known hole: the tests must be there, and say so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/security.md").read_text()
ROWS = re.findall(r"^\| (CVE-[^|]+) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
CVE = re.compile(r"CVE-\d{4}-\d+")


def body(name: str) -> str:
    """The source of `test_x.py::test_y`, up to the next test."""
    module, function = name.split("::")
    (path,) = TESTS.glob(f"*/{module}")
    found = re.search(
        rf"^(?:async )?def {function}\(.*?(?=^(?:async )?def |\Z)", path.read_text(), re.M | re.S
    )
    assert found, f"{name} is not there"
    return found[0]


def test_the_table_is_read_as_it_is_meant() -> None:
    assert len(ROWS) > 30
    assert len(re.findall(r"^\| CVE-", PAGE, re.MULTILINE)) == len(ROWS)


@pytest.mark.parametrize(("holes", "tests"), ROWS, ids=[holes.split(",")[0] for holes, _ in ROWS])
def test_a_hole_has_a_test_that_names_it(holes: str, tests: str) -> None:
    names = re.findall(r"`([^`]+)`", tests)
    assert names
    sources = "".join(map(body, names))
    for hole in CVE.findall(holes):
        assert hole in sources, f"{hole} is not named in {names}"
