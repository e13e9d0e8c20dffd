"""The parts of the label provider `apparmor` that need no AppArmor."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiffin.errors import DriverError, UserError
from tiffin.hooks import DriverContext, LabelRequest, Labels
from tiffin_label_apparmor import driver, profile

LOADED = """\
/usr/bin/man (enforce)
lunch (complain)
a profile with spaces (kill)
nonsense
"""


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> driver.AppArmor:
    """With these profiles loaded, and no parser."""
    (tmp_path / "profiles").write_text(LOADED)
    monkeypatch.setattr(driver, "LOADED", str(tmp_path / "profiles"))
    monkeypatch.setattr(driver, "PARSER_PATH", str(tmp_path))
    return driver.AppArmor(DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "run")))


def request(*options: str, privileged: bool = False) -> LabelRequest:
    return LabelRequest(container="c", options=options, privileged=privileged)


def test_loaded_profiles() -> None:
    assert profile.parse_loaded(LOADED) == {
        "/usr/bin/man": "enforce",
        "lunch": "complain",
        "a profile with spaces": "kill",
    }


async def test_the_last_profile_asked_for_counts(provider: driver.AppArmor) -> None:
    assert await provider.allocate(request("x", "lunch")) == Labels(profile="lunch")
    assert await provider.allocate(request("lunch", privileged=True)) == Labels(profile="lunch")
    assert await provider.allocate(request("lunch", "unconfined")) == Labels()


async def test_a_profile_that_is_not_loaded(provider: driver.AppArmor) -> None:
    with pytest.raises(UserError, match="'supper' is not loaded"):
        await provider.allocate(request("supper"))
    with pytest.raises(UserError, match="'supper' is not loaded"):
        await provider.prepare(Labels(profile="supper"))


async def test_no_default_without_the_parser(provider: driver.AppArmor) -> None:
    assert await provider.allocate(request()) == Labels()
    with pytest.raises(DriverError, match="apparmor_parser is missing"):
        await provider.prepare(Labels(profile=profile.NAME))


async def test_the_default_is_loaded_once(
    provider: driver.AppArmor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of the parser's name that notes what it is given."""
    program = tmp_path / "apparmor_parser"
    program.write_text(f"#!/bin/sh\ncat >{tmp_path}/text\necho x >>{tmp_path}/calls\n")
    program.chmod(0o755)
    for _ in range(2):
        assert await provider.allocate(request()) == Labels(profile=profile.NAME)
        (tmp_path / "profiles").write_text(f"{profile.NAME} (enforce)\n")
    assert (tmp_path / "text").read_text() == profile.TEXT
    assert (tmp_path / "calls").read_text() == "x\n"
    monkeypatch.setattr(profile, "TEXT", profile.TEXT + "\n# newer\n")
    await provider.prepare(Labels(profile=profile.NAME))
    assert (tmp_path / "calls").read_text() == "x\nx\n"


async def test_what_the_parser_says_is_told(provider: driver.AppArmor, tmp_path: Path) -> None:
    program = tmp_path / "apparmor_parser"
    program.write_text("#!/bin/sh\ncat >/dev/null\necho 'syntax error' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(DriverError, match="cannot be loaded: syntax error"):
        await provider.allocate(request())
