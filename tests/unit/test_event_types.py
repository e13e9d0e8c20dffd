"""Event types: each documented, each with a rule or a reason for none, each survives the log."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiffin.errors import Corrupt
from tiffin.events import base, container, decode, encode, registered
from tiffin.store.projections import RULES

NO_PROJECTION = {
    "container.signal_sent",
    "build.step_finished",
    "build.step_started",
    "container.committed",
    "container.files_copied",
    "health.changed",
    "image.pushed",
    "system.store_created",
    "system.projections_rebuilt",
    "volume.imported",
    "manifest.pushed",
    "pod.killed",
    "pod.paused",
    "pod.unpaused",
    "system.compacted",
    "system.damage_repaired",
}
"""Facts that change no table: they are history only."""


def test_every_event_is_documented_and_projected() -> None:
    for name, kind in registered().items():
        assert kind.__doc__, f"{name} has no docstring"
        assert (name in RULES) != (name in NO_PROJECTION), name


def test_every_rule_belongs_to_an_event() -> None:
    assert set(RULES) <= set(registered())


def test_what_opens_an_intent_is_closed_by_something() -> None:
    nouns = {name.partition(".")[0] for name in registered()}
    for noun in nouns:
        kinds = [kind for name, kind in registered().items() if name.startswith(noun + ".")]
        opened = {kind.OPENS for kind in kinds if kind.OPENS}
        closed = {kind.CLOSES for kind in kinds if kind.CLOSES}
        assert opened == closed, noun


@given(
    st.builds(
        container.Failed, operation=st.text(), error=st.text(), state=st.sampled_from(["created"])
    )
)
@settings(max_examples=50)
def test_encode_then_decode_is_the_same(event: container.Failed) -> None:
    type_, data = encode(event)
    assert "\n" not in data
    assert decode(type_, data) == event


def test_unknown_type_and_bad_data_are_named() -> None:
    with pytest.raises(Corrupt, match=r"no\.such"):
        decode("no.such", "{}")
    with pytest.raises(Corrupt, match=r"container\.exited"):
        decode("container.exited", '{"exit_code":"one"}')


def test_old_version_is_upcast(monkeypatch: pytest.MonkeyPatch) -> None:
    class Renamed(base.Event, frozen=True, kw_only=True):
        """A type whose field was once called `old`."""

        TYPE = "test.renamed"
        VERSION = 2
        new: int

    monkeypatch.setattr(base, "registered", lambda: {"test.renamed": Renamed})
    monkeypatch.setitem(base.UPCASTERS, ("test.renamed", 1), lambda fields: {"new": fields["old"]})
    assert base.decode("test.renamed", '{"old":5}') == Renamed(new=5)
    assert msgspec.json.decode(base.encode(Renamed(new=6))[1]) == {"new": 6, "v": 2}
