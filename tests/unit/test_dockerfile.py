"""Dockerfiles as text: lines, instructions, variables, patterns."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.dockerfile import expansion, lines
from tiffin.dockerfile.ignore import Ignore
from tiffin.dockerfile.instructions import Instruction, pairs
from tiffin.dockerfile.parser import parse
from tiffin.errors import UserError


def only(text: str) -> Instruction:
    """The one instruction after a FROM."""
    return parse(f"FROM x\n{text}").stages[0].instructions[0]


def logical(text: str) -> list[tuple[int, str, str]]:
    return [(line.number, line.name, line.rest) for line in lines.read(text).lines]


def test_continuations_comments_and_blank_lines() -> None:
    text = (
        "# a comment\n\nFROM a\nRUN one \\\n  # between\n\n   && two \\  \n&& three\n  env A=b\n"
        "RUN last \\"
    )
    assert logical(text) == [
        (3, "FROM", "a"),
        (4, "RUN", "one    && two && three"),
        (9, "ENV", "A=b"),
        (10, "RUN", "last"),
    ]


def test_an_escaped_escape_at_the_end_is_no_continuation() -> None:
    assert logical("RUN a \\\\\nRUN b") == [(1, "RUN", "a \\\\"), (2, "RUN", "b")]


def test_directives() -> None:
    found = lines.read("# syntax=docker/dockerfile:1\n# escape=`\nFROM a\nCOPY a `\n c:\\\n")
    assert found.escape == "`"
    assert found.directives == (("syntax", "docker/dockerfile:1"), ("escape", "`"))
    assert found.lines[1].rest == "a  c:\\"
    assert lines.read("FROM a\n# escape=`\n").escape == "\\", "after an instruction it is a comment"
    with pytest.raises(UserError, match="Dockerfile:2: the directive escape is there twice"):
        lines.read("# escape=`\n# escape=`\nFROM a")


def test_heredocs() -> None:
    text = (
        'RUN <<EOF\n# not a comment\necho \\\n  x\nEOF\nCOPY <<a.txt <<-"b" /d/\n$x\na.txt\n'
        "\t$y\n\tb\nRUN echo '<<no' && cat <<<here\nRUN cat <<EOF > /x && true\nq\nEOF\n"
    )
    found = lines.read(text).lines
    assert [line.number for line in found] == [1, 6, 11, 12]
    assert found[0].heredocs[0].content == "# not a comment\necho \\\n  x\n"
    first, second = found[1].heredocs
    assert (first.name, first.content, first.expand) == ("a.txt", "$x\n", True)
    assert (second.name, second.content, second.expand) == ("b", "$y\n", False)
    assert found[2].heredocs == ()
    assert found[3].heredocs[0].content == "q\n"
    with pytest.raises(UserError, match="F:1: the heredoc 'EOF' has no end"):
        lines.read("RUN <<EOF\nx", "F")


def test_stages_and_flags() -> None:
    found = parse(
        "ARG V=1\nFROM --platform=linux/amd64 a:$V as One\nRUN --mount=type=cache,target=/c "
        '--network=none ["a", "b c"]\nFROM one\nCOPY --from=one --chown=1:2 --chmod=755 a b /c/\n'
        "HEALTHCHECK --interval=5s CMD true\nONBUILD COPY a b\n"
    )
    assert [stage.name for stage in found.stages] == ["one", ""]
    run = found.stages[0].instructions[0]
    assert run.flags == (("mount", "type=cache,target=/c"), ("network", "none"))
    assert run.words == ("a", "b c")
    copy = found.stages[1].instructions[0]
    assert copy.flag("from") == "one"
    assert copy.parts == ["a", "b", "/c/"]
    assert found.stages[0].base.flag("platform") == "linux/amd64"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "D has no FROM"),
        ("RUN x", "D:1: RUN before FROM"),
        ("FROM a\n\nFOO b", "D:3: unknown instruction 'FOO'"),
        ("FROM a\nCOYP b c", "did you mean COPY"),
        ("FROM a as", "D:1: FROM: wants IMAGE"),
        ("FROM a AS b\nFROM c AS B", "D:2: FROM: there is a stage 'b' already"),
        ("FROM a\nCOPY b", "D:2: COPY: wants sources and a destination"),
        ("FROM a\nCOPY --nope=1 b c", "D:2: COPY: unknown flag --nope"),
        ("FROM a\nCOPY --chmod=abc b c", "not octal"),
        ("FROM a\nENV A", "D:2: ENV: 'A' has no value"),
        ("FROM a\nENV A=b C", "D:2: ENV: 'C' is not NAME=VALUE"),
        ("FROM a\nSHELL /bin/sh", "D:2: SHELL: wants the exec form"),
        ("FROM a\nRUN --network=x y", "--network=x is not known"),
        ("FROM a\nHEALTHCHECK x", "D:2: HEALTHCHECK: wants NONE, or CMD"),
        ("FROM a\nONBUILD FROM b", "D:2: ONBUILD: FROM is not allowed"),
        ("FROM a\nONBUILD NOPE b", "D:2: unknown instruction 'NOPE'"),
        ("# escape=x\nFROM a", "D:1: escape='x' is not known"),
    ],
)
def test_bad_dockerfiles_name_the_line(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text, "D")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pairs() -> None:
    assert pairs(only("ENV A=b C='d e' F=\"g $h\" I=j\\ k")) == [
        ("A", "b"),
        ("C", "'d e'"),
        ("F", '"g $h"'),
        ("I", "j\\ k"),
    ]
    assert pairs(only("ENV A the   rest")) == [("A", "the   rest")]
    assert pairs(only('LABEL "a b"="c d"')) == [('"a b"', '"c d"')]


VARIABLES = {"a": "1", "empty": "", "path": "/usr/lib/x.tar.gz", "two": "x y"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$a", "1"),
        ("${a}b", "1b"),
        ("$ab", ""),
        ("\\$a", "$a"),
        ("'$a'", "$a"),
        ('"$a"', "1"),
        ('"\\$a \\x"', "$a \\x"),
        ("${none:-d}", "d"),
        ("${empty:-d}", "d"),
        ("${empty-d}", ""),
        ("${none-d}", "d"),
        ("${a:-d}", "1"),
        ("${a:+d}", "d"),
        ("${empty:+d}", ""),
        ("${empty+d}", "d"),
        ("${none:+d}", ""),
        ("${none:-${a}}", "1"),
        ("${none:-'b c'}", "b c"),
        ("${path##*/}", "x.tar.gz"),
        ("${path#/usr/}", "lib/x.tar.gz"),
        ("${path%.*}", "/usr/lib/x.tar"),
        ("${path%%.*}", "/usr/lib/x"),
        ("${path/lib/bin}", "/usr/bin/x.tar.gz"),
        ("${path//r/R}", "/usR/lib/x.taR.gz"),
        ("a$", "a$"),
        ("a$/b", "a$/b"),
        ("$1x", "x"),
    ],
)
def test_variables(text: str, expected: str) -> None:
    assert expansion.word(text, VARIABLES) == expected


@pytest.mark.parametrize(
    "text", ["${", "${a", "${a:x}", "${}", "'a", '"a', "${none:?gone}", "${none?}", "${" * 100]
)
def test_bad_substitutions(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        expansion.word(text, VARIABLES)


def test_words_are_split_outside_quotes() -> None:
    assert expansion.words("a $two \"$two\" 'b c' d\\ e", VARIABLES) == [
        *("a", "x", "y", "x y", "b c", "d e"),
    ]
    assert expansion.words("80 ${none} 81", VARIABLES) == ["80", "81"]


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except UserError as error:
        assert str(error)


@given(st.text())
def test_any_word_expands_or_is_refused(text: str) -> None:
    try:
        found = expansion.word(text, VARIABLES)
    except ValueError:
        return
    if not set(text) & set("\\'\"$"):
        assert found == text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_what_is_quoted_is_taken_as_it_is(text: str) -> None:
    assert expansion.word(shlex.quote(text).replace("'\"'\"'", "'\\''"), {}) == text


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1)))
def test_plain_words_survive(words: list[str]) -> None:
    assert expansion.split(" ".join(words)) == words
    assert expansion.words("  ".join(words), {}) == words


@pytest.mark.parametrize(
    ("patterns", "path", "out"),
    [
        ("*.md", "a.md", True),
        ("*.md", "d/a.md", False),
        ("**/*.md", "d/e/a.md", True),
        ("**/*.md", "a.md", True),
        ("d", "d/e/f", True),
        ("/d/", "d/e", True),
        ("d\n!d/keep", "d/keep", False),
        ("d\n!d/keep", "d/other", True),
        ("!d/keep\nd", "d/keep", True),
        ("# d", "d", False),
        ("*/temp*", "x/temporary", True),
        ("*/temp*", "temporary", False),
        ("temp?", "tempa", True),
        ("temp[a-c]", "tempb", True),
        ("temp[!a-c]", "tempb", False),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("**", "x/y", True),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("..", "x", False),
    ],
)
def test_ignore(patterns: str, path: str, out: bool) -> None:
    assert Ignore.parse(patterns).ignored(path) is out
