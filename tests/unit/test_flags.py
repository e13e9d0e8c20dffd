"""The command line's parser: pflag's rules, and errors that help."""

from __future__ import annotations

import itertools
import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.cli import commands, main
from tiffin.cli.container_flags import FLAGS
from tiffin.cli.flags import Call, Command, Flag, help_text, parse, sentence
from tiffin.errors import Conflict, NotFound, TiffinError, UserError


def nothing(call: Call) -> int:
    return 0


def command(*, interspersed: bool = True, most: int | None = None) -> Command:
    flags = (
        Flag("interactive", "i", help="keep stdin"),
        Flag("tty", "t"),
        Flag("proxy", default=True),
        Flag("name", "", "str"),
        Flag("env", "e", "list"),
        Flag("last", "n", "int", help="so many", default=7),
        Flag("dry-run"),
    )
    examples = ("tiffin demo x",)
    return Command("demo", "ARG...", "Demo", flags, (1, most), examples, nothing, interspersed)


@pytest.mark.parametrize(
    "words",
    [
        ["--name", "x", "--last", "3", "-e", "A=1", "-e", "B=2", "-it", "arg"],
        ["--name=x", "--last=3", "-eA=1", "-e=B=2", "-ti", "arg"],
        ["arg", "-i", "-t", "--name", "x", "-n3", "--env=A=1", "--env", "B=2"],
        ["-itn3", "-itn", "3", "--name=y", "--name=x", "-eA=1", "arg", "-eB=2"],
    ],
)
def test_all_spellings_mean_the_same(words: list[str]) -> None:
    options, arguments = parse(command(), words)
    assert arguments == ["arg"]
    assert options["name"] == "x"
    assert options["last"] == 3
    assert options["env"] == ["A=1", "B=2"]
    assert options["interactive"] is options["tty"] is True


def test_what_is_not_given_is_empty_or_the_default() -> None:
    options, _ = parse(command(), ["x"])
    assert options == {
        "interactive": False,
        "tty": False,
        "proxy": True,
        "name": "",
        "env": [],
        "last": 7,
        "dry_run": False,
    }


def test_lists_are_not_shared_between_two_parses() -> None:
    parse(command(), ["-e", "A=1", "x"])[0]["env"].append("B")
    assert parse(command(), ["x"])[0]["env"] == []


@pytest.mark.parametrize(
    ("word", "value"), [("--proxy=false", False), ("--proxy=0", False), ("--proxy=T", True)]
)
def test_a_bool_takes_its_value_after_an_equals_sign_only(word: str, value: bool) -> None:
    options, arguments = parse(command(), [word, "false"])
    assert options["proxy"] is value
    assert arguments == ["false"]


def test_the_first_argument_ends_the_flags_when_the_rest_is_another_commands() -> None:
    options, arguments = parse(command(interspersed=False), ["-i", "image", "ls", "-t", "--", "x"])
    assert options["interactive"] and not options["tty"]
    assert arguments == ["image", "ls", "-t", "--", "x"]


def test_two_dashes_end_the_flags() -> None:
    assert parse(command(), ["a", "--", "-i", "--"])[1] == ["a", "-i", "--"]


def test_a_dash_alone_is_an_argument_and_a_value_may_begin_with_one() -> None:
    options, arguments = parse(command(), ["-", "-n", "-1", "--name", "-x"])
    assert arguments == ["-"]
    assert (options["last"], options["name"]) == (-1, "-x")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--naem", "x"], "unknown flag --naem; did you mean --name?"),
        (["-x"], "unknown flag -x"),
        (["-itz"], "unknown flag -z in -itz"),
        (["-name"], "unknown flag -n; did you mean"),
        (["--name"], "--name needs a value"),
        (["-e"], "-e (--env) needs a value"),
        (["--last=many", "x"], "'many' is not a whole number"),
        (["--last=1_0", "x"], "is not a whole number"),
        (["--tty=perhaps", "x"], "neither true nor false"),
        ([], "needs at least 1 argument, got 0"),
        (["a", "b", "c"], "unexpected argument 'c'"),
    ],
)
def test_errors_name_the_word_and_help(words: list[str], text: str) -> None:
    if words == ["-name"]:
        words, text = ["-dry-run"], "did you mean --dry-run?"
    with pytest.raises(UserError) as caught:
        parse(command(most=2), words)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.lists(st.text(max_size=8), max_size=8))
def test_any_words_are_parsed_or_refused_in_one_line(words: list[str]) -> None:
    try:
        parse(command(), words, main.GLOBALS)
    except UserError as error:
        assert str(error)


def test_a_commands_own_letter_goes_before_a_global_one() -> None:
    run = Command("run", "IMAGE", "Run", FLAGS, (1, None), (), nothing, interspersed=False)
    options, _ = parse(run, ["-h", "box", "image"], main.GLOBALS)
    assert options["hostname"] == "box" and not options["help"]
    options, arguments = parse(run, ["--help"], main.GLOBALS)
    assert options["help"] and arguments == []


def test_help_has_every_flag_its_default_and_the_examples() -> None:
    text = help_text(command(), main.GLOBALS)
    for flag in (*command().flags, *main.GLOBALS):
        assert f"--{flag.name}" in text
    assert "So many (default: 7)" in text
    assert "tiffin demo x" in text
    assert all(len(line) <= 104 for line in text.splitlines())


def test_names_and_letters_of_create_are_unique() -> None:
    names = [flag.name for flag in FLAGS]
    letters = [flag.short for flag in FLAGS if flag.short]
    assert len(set(names)) == len(names)
    assert len(set(letters)) == len(letters)
    assert all(flag.help for flag in FLAGS)


@pytest.mark.parametrize("name", sorted(commands.COMMANDS))
def test_every_command_of_the_table_is_there_with_help_and_examples(name: str) -> None:
    loaded = main.load(name)
    assert (loaded.summary and loaded.examples) or loaded.hidden
    assert all(flag.help for flag in loaded.flags)
    assert len({flag.name for flag in loaded.flags}) == len(loaded.flags)
    text = " ".join(help_text(loaded, main.GLOBALS).split())
    assert text.startswith(f"{loaded.summary} Usage: tiffin {loaded.name}")


@pytest.mark.parametrize("name", sorted(commands.COMMANDS))
def test_the_examples_of_a_command_are_command_lines_of_it(name: str) -> None:
    loaded = main.load(name)
    own = 0
    for example in loaded.examples:
        lexer = shlex.shlex(example, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        if "tiffin" not in words:
            continue  # what to do with what it printed
        at = words.index("tiffin")
        argv = list(itertools.takewhile(lambda w: not set(w) & set("|<>;()&"), words[at + 1 :]))
        found = commands.find(argv)
        assert found, example
        command = main.load(found[0])
        own += command is loaded
        parse(command, argv[found[1] :], main.GLOBALS)
    assert own


@pytest.mark.parametrize("name", sorted(commands.COMMANDS))
def test_every_flag_is_explained_in_a_sentence(name: str) -> None:
    loaded = main.load(name)
    text = help_text(loaded, main.GLOBALS)
    for flag in loaded.flags:
        assert len(flag.help) > 3, flag.name
        assert re.search(rf"^  (-., |    )--{flag.name}( \S+)?(  |$)", text, re.MULTILINE), (
            flag.name
        )
        first = sentence(flag.help)[0]
        assert (
            first.isupper()
            or not first.isalpha()
            or "," in flag.help.split()[0]
            or ("=" in flag.help.split()[0] or "-" in flag.help.split()[0])
        ), flag.help
    assert all(len(line) <= 104 for line in text.splitlines() if "tiffin" not in line), name


LISTS = [name for name in commands.COMMANDS if name.split()[-1] in ("ls", "ps", "images")]


@pytest.mark.parametrize("name", [*LISTS, "events consumers"])
def test_every_list_has_the_flags_of_lists(name: str) -> None:
    flags = {flag.name: flag for flag in main.load(name).flags}
    assert {"filter", "format", "noheading", "quiet"} <= set(flags)
    assert flags["filter"].kind == "list" and flags["filter"].short == "f"
    assert flags["quiet"].short == "q" and "json" in flags["format"].help
    assert "only what matches: " in flags["filter"].help  # complete.py takes them from there


SHOWS = [
    name
    for name in commands.COMMANDS
    if name.split()[-1] in ("inspect", "prune") and name != "manifest inspect"
]


@pytest.mark.parametrize("name", SHOWS)
def test_what_shows_or_prunes_has_the_same_flags_for_every_noun(name: str) -> None:
    flags = {flag.name: flag for flag in main.load(name).flags}
    if name.endswith("inspect"):
        assert flags["format"].short == "f"
    else:
        assert flags["force"].short == "f" and flags["filter"].kind == "list"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["rnu"], "did you mean run?"),
        (["image", "lss"], "did you mean image ls?"),
        (["--rot", "/x", "ps"], "did you mean --root?"),
        (["--log-level", "loud", "ps"], "--log-level 'loud' is not known"),
    ],
)
def test_an_unknown_command_or_flag_gets_a_suggestion(words: list[str], text: str) -> None:
    with pytest.raises(UserError) as caught:
        main.dispatch(words)
    assert text in str(caught.value)


def test_events_verify_is_found_before_events() -> None:
    assert commands.find(["events", "verify"]) == ("events verify", 2)
    assert commands.find(["events", "--follow"]) == ("events", 1)
    assert commands.find(["umount", "x"]) == ("unmount", 1)
    assert commands.find(["image"]) is None


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (NotFound("no such image: x"), "no such image: x", 125),
        (ExceptionGroup("all", [Conflict("in use")]), "in use", 125),
        (
            ExceptionGroup("all", [ExceptionGroup("more", [UserError("bad")]), ValueError()]),
            "internal error: ExceptionGroup",
            125,
        ),
        (ExceptionGroup("all", [ValueError("x"), UserError("bad")]), "bad", 125),
        (KeyboardInterrupt(), "", 130),
        (BrokenPipeError(32, "Broken pipe"), "", 141),
        (OSError(28, "No space left on device", "/x/y"), "/x/y: No space left on device", 125),
        (ValueError("odd"), "internal error: ValueError: odd", 125),
        (TiffinError("evil \x1b[31m\nname"), "evil \\x1b[31m\\nname", 125),
    ],
)
def test_errors_become_one_line_and_a_code(error: BaseException, line: str, code: int) -> None:
    shown, given_code = main.explain(error)
    assert shown.startswith(line)
    assert given_code == code
    assert shown.isprintable()
