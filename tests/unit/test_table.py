"""Lists as podman lays them out."""

from __future__ import annotations

import json

import pytest

from tiffin.cli import table
from tiffin.errors import UserError


def test_columns_are_at_least_twelve_wide_with_a_gap_of_two() -> None:
    text = table.table(("ID", "NAME"), [("abcdefghijkl", "one"), ("x", "two")])
    assert text == "ID            NAME\nabcdefghijkl  one\nx             two\n"
    assert table.table(("ID", "NAME"), []) == "ID          NAME\n"


def test_no_heading_and_nothing_at_all() -> None:
    assert table.table((), [("a", "b")]) == "a           b\n"
    assert table.table((), []) == ""


def test_cells_cannot_send_escape_sequences() -> None:
    assert table.table((), [("a\x1b[2J\n", "b")]) == "a\\x1b[2J\\n  b\n"


def test_format_json_template_and_table() -> None:
    rows = [{"ID": "1", "Name": "a"}, {"ID": "2", "Name": "b"}]
    assert json.loads(table.formatted("json", rows, {})) == rows
    assert table.formatted("{{.ID}}-{{.Name}}", rows, {}) == "1-a\n2-b\n"
    text = table.formatted("table {{.ID}}\\t{{.Name}}", rows, {"ID": "NUMBER"})
    assert text == "NUMBER      NAME\n1           a\n2           b\n"
    text = table.formatted("table {{.ID}} {{.Name}}", rows, {}, heading=False)
    assert text == "1 a\n2 b\n"


def test_filters_are_checked() -> None:
    assert table.filters(["a=1", "a=2", "b=x=y"], ("a", "b")) == {"a": ["1", "2"], "b": ["x=y"]}
    with pytest.raises(UserError, match=r"unknown filter 'nmae'; did you mean name\?"):
        table.filters(["nmae=1"], ("name",))
    with pytest.raises(UserError, match="needs a value"):
        table.filters(["name"], ("name",))


def test_labels() -> None:
    assert table.has_labels({"a": "1", "b": ""}, ["a", "a=1", "b="])
    assert not table.has_labels({"a": "1"}, ["a=2"])
    assert not table.has_labels({"a": "1"}, ["b"])
