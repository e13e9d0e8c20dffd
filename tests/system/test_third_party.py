"""A third party's plugin: the package that `plugin new` writes, installed by pip in a venv of its
own, passing the conformance kit, and used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, PROGRAM, Tiffin

from tiffin import plugin_index
from tiffin.cli import scaffold

TOP = Path(__file__).parents[2]
EXAMPLE = TOP / "examples/tiffin-storage-dir"
OTHERS = {
    "shelf-runc": "runtime",
    "cable": "network",
    "chalk": "label",
    "my-audit": "consumer",
    "oom-first": "spec",
}
"""Plugins that `plugin new` writes besides the example: name -> kind."""
FOLLOWS = "import site; site.addsitedir({!r})\n"


def run(*argv: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        list(map(str, argv)),
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def tree(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".pytest_cache" not in path.parts
    }


class Elsewhere(Tiffin):
    """The tiffin of another interpreter."""

    python = ""

    def using(self, *flags: str) -> Elsewhere:
        other = Elsewhere(self.base, *self.flags, *flags)
        other.python = self.python
        return other

    def argv(self, *args: str | Path) -> list[str]:
        return [self.python, "-m", "tiffin.cli.main", *super().argv(*args)[1:]]


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with the example in it, by pip without an index. tiffin and pytest it has from ours,
    so nothing is installed there."""
    base = tmp_path_factory.mktemp("third-party")
    run(sys.executable, "-m", "venv", "--without-pip", base / "venv", cwd=base)
    python = base / "venv/bin/python"
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", place, cwd=base).strip())
    (site / "ours.pth").write_text(FOLLOWS.format(sysconfig.get_path("purelib")))
    source = base / "source"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    others = [base / name for name in OTHERS]
    for (name, kind), target in zip(OTHERS.items(), others, strict=True):
        run(PROGRAM, "plugin", "new", kind, name, "--directory", target, cwd=base)
    run(
        sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", "--python", python,
        "install", "--no-index", "--no-build-isolation", "--no-deps", source, *others, cwd=base,
    )  # fmt: skip
    return base


def test_the_example_is_what_plugin_new_writes(shared: Tiffin, tmp_path: Path) -> None:
    target = shared("plugin", "new", "storage", "dir", cwd=tmp_path).word
    assert tree(tmp_path / target) == tree(EXAMPLE)


def test_ours_know_nothing_of_it() -> None:
    for folder in ("core", "plugins"):
        for path in (TOP / folder).rglob("*.py"):
            assert "tiffin_storage_dir" not in path.read_text(), path


def test_it_passes_the_kit_where_it_is_installed(venv: Path) -> None:
    out = run(venv / "venv/bin/python", "-m", "pytest", "-q", cwd=venv / "source")
    assert " passed" in out and "failed" not in out
    where = "import tiffin_storage_dir as m; print(m.__file__)"
    assert str(venv / "venv") in run(venv / "venv/bin/python", "-c", where, cwd=venv)


@pytest.fixture
def theirs(venv: Path) -> Iterator[Tiffin]:
    command = Elsewhere(Tiffin.fresh().base)
    command.python = str(venv / "venv/bin/python")
    yield command
    command("rm", "-a", "-f", "-t", "0")
    command.attempt("rmi", "-a", "-f")
    assert not command.left_in_store()
    world.sweep(command.base)


def test_containers_run_on_it(theirs: Tiffin) -> None:
    (shown,) = json.loads(theirs("plugin", "inspect", "storage.dir").out)
    assert (shown["State"], shown["Package"]) == ("enabled", "tiffin-storage-dir")
    ours = theirs.using("--storage-driver=dir")
    assert ours("run", "--rm", "--network=none", BUSYBOX, "echo", "well").out == "well\n"
    ours("run", "--name=lunch", "--network=none", BUSYBOX, "touch", "/new")
    assert theirs("inspect", "--format={{.Driver}}", "lunch").word == "dir"
    theirs("commit", "-q", "lunch", "kept")
    assert ours("run", "--rm", "--network=none", "kept", "ls", "/new").word == "/new"


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_pass_their_tests_where_they_are_installed(venv: Path, name: str) -> None:
    out = run(
        venv / "venv/bin/python", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
        *(["-k", "stages or names"] if OTHERS[name] == "runtime" else []),
        cwd=venv / name, TIFFIN_SHELF_RUNC_PROGRAM="runc",
    )  # fmt: skip
    assert " passed" in out and "skipped" not in out


def test_all_kinds_are_known_where_they_are_installed(theirs: Tiffin) -> None:
    found = theirs("plugin", "ls", "--format={{.FullName}} {{.State}} {{.Hooks}}").lines
    for name, kind in OTHERS.items():
        assert any(line.startswith(f"{kind}.{name} enabled [") for line in found), (name, found)
    asked = ("--annotation", "org.oom-first.oom-score=500", "--network=none")
    read = (BUSYBOX, "cat", "/proc/self/oom_score_adj")
    assert theirs("run", "--rm", *asked, *read).word == "500"
    bad = ("--annotation=org.oom-first.oom-score=5000", "--network=none", BUSYBOX)
    theirs.fails("run", "--rm", *bad, says="no number from -1000 to 1000")


def test_there_is_a_package_for_each_kind_of_plugin() -> None:
    assert sorted(scaffold.KINDS) == sorted(plugin_index.KINDS)
    assert {"storage", *OTHERS.values()} == set(scaffold.KINDS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("plugin", "new", "teapot", "x"), "'teapot' is no kind"),
        (("plugin", "new", "storage", "../x"), "cannot name a plugin"),
        (("plugin", "new", "storage", "X"), "cannot name a plugin"),
        (("plugin", "new", "storage", "x", "-d", "/tmp"), "/tmp exists"),
        (("plugin", "new", "storage"), "needs 2 arguments"),
    ],
)
def test_bad_input(shared: Tiffin, words: tuple[str, ...], says: str) -> None:
    shared.fails(*words, says=says)
