"""Go templates: what scripts write after --format."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiffin.cli import gotemplate
from tiffin.errors import UserError

VALUE: dict[str, Any] = {
    "ID": "abc",
    "State": {"Pid": 42, "Running": True, "Health": None},
    "Names": ["one", "two"],
    "Labels": {"b": "2", "a": "1"},
    "Ports": [],
    "Size": 1.5,
    "Mounts": [{"Source": "/a", "RW": True}, {"Source": "/b", "RW": False}],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.ID}}", "abc"),
        ("{{ .State.Pid }} {{.State.Running}}", "42 true"),
        ("{{.Names}} {{.Labels}} {{.Ports}}", "[one two] map[a:1 b:2] []"),
        ("{{.State}}", "map[Health:<nil> Pid:42 Running:true]"),
        ("{{.Nothing}} {{.State.Health}}", "<no value> <no value>"),
        ("{{json .Names}}", '["one","two"]'),
        ("{{json .State}}", '{"Pid":42,"Running":true,"Health":null}'),
        ("{{.Labels | json}}", '{"b":"2","a":"1"}'),
        ('{{json "<&>"}}', '"\\u003c\\u0026\\u003e"'),
        ("{{range .Names}}<{{.}}>{{end}}", "<one><two>"),
        ("{{range $i, $n := .Names}}{{$i}}={{$n}};{{end}}", "0=one;1=two;"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "a=1 b=2 "),
        ("{{range .Ports}}x{{else}}none{{end}}", "none"),
        ("{{range .Mounts}}{{.Source}}{{if .RW}}!{{end}} {{end}}", "/a! /b "),
        ("{{range .Names}}{{$.ID}}{{end}}", "abcabc"),
        ('{{range .Names}}{{if eq . "two"}}{{break}}{{end}}{{.}}{{end}}', "one"),
        ('{{range .Names}}{{if eq . "one"}}{{continue}}{{end}}{{.}}{{end}}', "two"),
        ("{{if .Ports}}a{{else if .Names}}b{{else}}c{{end}}", "b"),
        ("{{if .X}}a{{else if .Y}}b{{else}}c{{end}}d", "cd"),
        ("{{with .State}}{{.Pid}}{{end}}{{with .X}}a{{else}}b{{end}}", "42b"),
        ("{{with $s := .State}}{{$s.Pid}}{{end}}", "42"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ('{{index .Labels "a"}}{{index .Names 1}}{{(index .Mounts 0).Source}}', "1two/a"),
        ('{{join .Names ", "}}', "one, two"),
        ('{{range split "a,b" ","}}{{.}}.{{end}}', "a.b."),
        ('{{upper .ID}}{{lower "AB"}}{{title "ab cd"}}{{len .Names}}', "ABCabAb Cd2"),
        ("{{slice .ID 1 2}}{{slice .Names 1}}", "b[two]"),
        (
            '{{printf "%s-%d|%5s|%-5s|%05d|%q|%v" .ID 7 "r" "l" 42 "q" .Names}}',
            'abc-7|    r|l    |00042|"q"|[one two]',
        ),
        ('{{printf "%d%%" 5}}{{print "a" 1 2}}{{println "x"}}', "5%a1 2x\n"),
        ("{{if and .ID .Names}}y{{end}}{{or .X .ID}}{{not .ID}}", "yabcfalse"),
        ('{{eq .State.Pid 42}}{{ne .ID "abc"}}{{lt 1 2}}{{ge 1 2}}', "truefalsetruefalse"),
        ('{{eq .ID "x" "abc"}}', "true"),
        ("a {{- .ID -}} b", "aabcb"),
        ("a {{/* note }} */}}b{{- /* x */ -}} c", "a bc"),
        ("{{`raw {{ }}`}}{{\"q\\t\"}}{{'a'}}", "raw {{ }}q\t97"),
        ("{{1}} {{-2}} {{1.5}} {{0x10}} {{true}}", "1 -2 1.5 16 true"),
        ("{{.Size}}", "1.5"),
        ("{{.ID}}\\t{{.ID}}\\n", "abc\tabc\n"),
        ("{{.}}", None),
        ("no action", "no action"),
        ("", ""),
    ],
)
def test_templates(template: str, text: str | None) -> None:
    shown = gotemplate.render(template, VALUE)
    assert shown == text if text is not None else shown.startswith("map[")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.ID", "character 1: {{ has no }}"),
        ("ab{{nope .ID}}", "character 3: function 'nope' is not defined"),
        ("{{end}}", "end without"),
        ("{{if .ID}}", "if has no end"),
        ("{{else}}", "else without"),
        ("{{if .A}}{{else}}{{else}}{{end}}", "else without"),
        ("{{}}", "nothing between"),
        ("{{$x}}", "$x is not defined"),
        ("{{.ID.Nope}}", "has no field Nope"),
        ("{{range .ID}}{{end}}", "range over"),
        ("{{index .Names 9}}", "out of range"),
        ("{{lt .Names 1}}", "no order"),
        ("{{.ID | }}", "value is missing"),
        ("{{(.ID}}", ") is missing"),
        ("{{.ID .ID}}", "only a function"),
        ('{{"abc}}', "has no }}"),
        ('{{define "x"}}{{end}}', "not supported"),
        ("{{break}}", "outside of range"),
        ("{{range 9999999}}{{end}}", "too long"),
        ('{{printf "%99999d" 1}}', "cannot take"),
        ("{{/* x }}", "comment does not end"),
        ("{{" + "(" * 1000 + "}}", "nested too deeply"),
        ("{{if .A}}" * 1000, "nested too deeply"),
    ],
)
def test_bad_templates_are_refused_in_one_line(template: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        gotemplate.render(template, VALUE)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_refuses_fields_that_it_lacks() -> None:
    with pytest.raises(UserError, match=r"no field Nmae; did you mean Name\?"):
        gotemplate.render("{{.Nmae}}", gotemplate.Record(Name="x"))


def test_headings_stand_where_fields_are_printed() -> None:
    line = gotemplate.headings(
        "{{.ID}}\\t{{upper .CreatedAt}}\\t{{if .X}}{{.X}}{{end}}", {"X": "!"}
    )
    assert line == "ID\tCREATED AT\t!"


def test_nested_loops_are_limited() -> None:
    template = "{{range 1000}}{{range 1000}}{{range 1000}}{{end}}{{end}}{{end}}"
    with pytest.raises(UserError, match="too long"):
        gotemplate.render(template, {})


PIECES = st.sampled_from(
    "{{ }} {{- -}} .ID .Names . $ $x := = , | ( ) if else end range with json printf join index "
    "\"a\" `b` 1 -2 0.5 true nil eq and or not len slice /* */ %d \\t .State.Pid $i 'c' é".split()
)
LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.floats()
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["ID", "Names", "State", "Pid"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.lists(PIECES | st.text(max_size=3), max_size=14).map(" ".join), VALUES)
def test_any_template_over_any_value_ends_in_text_or_one_line(template: str, value: Any) -> None:
    try:
        assert isinstance(gotemplate.render(template, value), str)
    except UserError as error:
        assert str(error)


@given(st.text(max_size=40), VALUES)
def test_any_text_inside_an_action_is_read_or_refused(text: str, value: Any) -> None:
    try:
        gotemplate.render("{{" + text + "}}", value)
    except UserError as error:
        assert str(error)
