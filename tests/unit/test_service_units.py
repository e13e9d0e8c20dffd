"""Units for what is there: the command line that made it, and what the unit makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.cli import service_units
from tiffin.cli.service_units import Thing, Wishes, again, unit
from tiffin.errors import UserError
from tiffin.quadlet import unitfile

TIFFIN = "/usr/bin/tiffin"


def wishes(**given: object) -> Wishes:
    made = Wishes()
    made.program = (TIFFIN,)
    for name, value in given.items():
        setattr(made, name, value)
    return made


def thing(*made_by: str, name: str = "web", **given: object) -> Thing:
    return Thing(f"container-{name}", name, made_by=made_by, timeout=10, **given)  # type: ignore[arg-type]


def parsed(text: str) -> unitfile.UnitFile:
    return unitfile.parse(text)


def words(text: str, key: str = "ExecStart") -> list[str]:
    return unitfile.split(parsed(text).last("Service", key))


def test_what_the_unit_decides_is_left_out_of_the_command_line() -> None:
    before, name, flags, arguments, called = again(
        "--root /r run -dit --rm --replace --name=web --cidfile x --cgroups split --pod p "
        "--sdnotify=ignore --restart always -e A=b --debug --tls-verify=false -m64m image -d "
        "--rm".split()
    )
    assert before == ["--root", "/r", "--debug"]
    assert (name, called) == ("run", "web")
    assert flags == [
        *("--interactive", "--tty", "--env", "A=b", "--tls-verify=false"),
        *("--memory", "64m"),
    ]
    assert arguments == ["image", "-d", "--rm"]


def test_values_that_look_like_flags_stay_values() -> None:
    _, _, flags, _, _ = again(["create", "--pids-limit=-1", "--entrypoint", "", "i"])
    assert flags == ["--pids-limit=-1", "--entrypoint="]


def test_what_was_not_made_by_a_command_line_is_refused() -> None:
    with pytest.raises(UserError, match="not known how it was made"):
        unit(thing(), wishes(new=True))


def test_a_unit_that_makes_a_container_anew() -> None:
    made_by = ("create", "--name", "web", "--label", "x=%y", "i", "sh", "-c", "echo $HOME")
    text = unit(thing(*made_by), wishes(new=True, restart="always", stop_timeout=30))
    assert words(text)[:4] == [TIFFIN, "run", "--cidfile=%t/%n.ctr-id", "--cgroups=no-conmon"]
    assert words(text)[-6:] == ["--label", "x=%%y", "i", "sh", "-c", "echo $$HOME"]
    assert "--replace" in words(text)
    assert words(text, "ExecStop")[1:] == ["stop", "--ignore", "-t", "30", "--cidfile=%t/%n.ctr-id"]
    service = parsed(text)
    assert service.last("Service", "Restart") == "always"
    assert service.last("Service", "TimeoutStopSec") == "90"
    assert service.last("Service", "Type") == "notify"


def test_a_unit_that_starts_what_is_there() -> None:
    text = unit(thing(pid_file="/run/x/50%/conmon.pid"), wishes())
    assert words(text) == [TIFFIN, "start", "web"]
    assert parsed(text).last("Service", "PIDFile") == "/run/x/50%%/conmon.pid"
    assert parsed(text).last("Service", "Type") == "forking"


def test_a_template_has_a_container_for_each_instance() -> None:
    text = unit(thing("create", "i"), wishes(new=True, template=True))
    start = words(text)
    assert start[start.index("--name") + 1] == "web-%i"
    assert text.startswith("# container-web@.service\n")
    assert parsed(text).last("Unit", "Description").endswith("for %I")


def test_a_pod_and_what_is_in_it() -> None:
    pod = Thing("pod-p", "p", made_by=("pod", "create", "p"), timeout=10, members=["container-a"])
    text = unit(pod, wishes(new=True), is_pod=True)
    assert words(text)[1:] == ["pod", "create", "--replace", "--name", "p"]
    assert parsed(text).all("Unit", "Before") == ["container-a.service"]
    assert parsed(text).all("Service", "Restart") == []
    member = thing("run", "--pod", "p", "i", name="a", pod="p", pod_unit="pod-p")
    text = unit(member, wishes(new=True))
    assert parsed(text).last("Unit", "BindsTo") == "pod-p.service"
    assert words(text)[words(text).index("--pod") + 1] == "p"


def test_the_policy_of_the_container_is_systemds() -> None:
    assert parsed(unit(thing(restart="unless-stopped"), wishes())).last("Service", "Restart") == (
        "always"
    )
    assert parsed(unit(thing(), wishes())).last("Service", "Restart") == "on-failure"


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_arguments_reach_the_container_as_they_were(given: list[str]) -> None:
    """systemd takes away the quotes, and one of two % and $."""
    text = unit(thing("create", "--", "image", *given), wishes(new=True))
    start = words(text)
    told = [word.replace("%%", "%").replace("$$", "$") for word in start]
    assert told[-len(given) - 1 :] == ["image", *given]


def test_known_restarts() -> None:
    assert set(service_units.POLICIES.values()) <= set(service_units.RESTARTS)
