"""The published schema of event lines: generated, checked in, and kept compatible."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import jsonschema
import pytest
import stories

from tiffin.cli import events
from tiffin.cli import main as cli
from tiffin.events import registered, schema
from tiffin.store import sync


def test_the_newest_file_is_what_the_types_say() -> None:
    kept = schema.published()
    assert list(kept)[-1] == schema.VERSION
    assert kept[schema.VERSION] == schema.document(), "run: python -m tiffin.events.schema"


def test_every_version_keeps_what_the_earlier_ones_promised() -> None:
    for (old, before), (new, after) in itertools.combinations(schema.published().items(), 2):
        if old.partition(".")[0] == new.partition(".")[0]:
            assert schema.broken(before, after) == [], f"{old} -> {new}"


def test_all_types_are_in_it() -> None:
    assert set(registered()) <= set(schema.document()["$defs"])


def test_what_breaks_readers_is_found() -> None:
    old = schema.document()
    assert schema.broken(old, old) == []
    new = copy.deepcopy(old)
    del new["$defs"]["container.started"]
    del new["$defs"]["container.exited"]["properties"]["oom"]
    new["$defs"]["container.exited"]["properties"]["exit_code"] = {"type": "string"}
    new["$defs"]["container.mounted"]["required"].remove("path")
    new["properties"]["actor"]["required"].remove("uid")
    assert sorted(schema.broken(old, new)) == [
        "container.exited: field exit_code is of another type",
        "container.exited: field oom is gone",
        "container.mounted: field path may be missing",
        "container.started is gone",
        "event.actor: field uid may be missing",
    ]
    more = copy.deepcopy(old)
    more["$defs"]["container.exited"]["properties"]["why"] = {"type": "string", "default": ""}
    more["$defs"]["meal.created"] = {"type": "object"}
    assert schema.broken(old, more) == []


def test_lines_follow_it_and_wrong_ones_do_not(tmp_path: Path) -> None:
    connection = sync.open_read_only(stories.tell(tmp_path).database)
    assert connection is not None
    checker = jsonschema.Draft202012Validator(schema.document())
    lines = [events.record(row) for row in sync.events(connection)]
    connection.close()
    assert len(lines) == 20
    for line in lines:
        checker.validate(line)
    wrong = lines[-1] | {"data": {"exit_code": "three"}}
    with pytest.raises(jsonschema.ValidationError, match="'three'"):
        checker.validate(wrong)


def test_events_schema_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.dispatch(["events", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema.document()
