"""README and docs are true: every command in a `console` block is run, in order, page by page."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from support.cli import PROGRAM, Tiffin

from tiffin.cli import scaffold

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# file: (\S+)\n")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files(page: Path) -> list[tuple[str, str]]:
    """Blocks that begin with `# file: NAME` are files in the directory where commands are run."""
    blocks = re.findall(r"^```(?:python|toml)\n(.*?)^```$", page.read_text(), re.M | re.S)
    return [(found[1], block) for block in blocks if (found := FILE.match(block))]


def commands(page: Path) -> list[str]:
    """Lines that begin with `$ `, each with its continuation lines."""
    found: list[str] = []
    for block in BLOCK.findall(page.read_text()):
        goes_on = False
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(line[2:])
            elif goes_on:
                found[-1] += "\n" + line
            goes_on = line.endswith("\\") and (line.startswith("$ ") or goes_on)
    return found


def sources() -> str:
    """What the python blocks of the pages are taken from: the packages that `plugin new` writes."""
    written = scaffold.files("storage", "dir") | scaffold.files("runtime", "runc")
    written |= scaffold.files("consumer", "parcel") | scaffold.files("spec", "oom-first")
    return "\n".join(written.values())


@pytest.mark.parametrize("page", [p for p in PAGES if PYTHON.findall(p.read_text())], ids=str)
def test_python_of(page: Path) -> None:
    """A block is a file that the page's commands use, or stands in a package that is tested."""
    for block in PYTHON.findall(page.read_text()):
        assert FILE.match(block) or block in sources(), f"{page.name}:\n{block}"


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
def test_commands_of(tiffin: Tiffin, tmp_path: Path, page: Path) -> None:
    env = os.environ | {
        "TIFFIN_ROOT": str(tiffin.root),
        "TIFFIN_RUNROOT": str(tiffin.run),
        "PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}",
    }
    for name, text in files(page):
        (tmp_path / name).write_text(text)
    for command in commands(page):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        expected = re.search(r"# exit code (\d+)", command)
        code = int(expected[1]) if expected else 0
        assert done.returncode == code, f"$ {command}\n{done.stdout}{done.stderr}"


def test_every_command_is_documented(shared: Tiffin) -> None:
    text = (TOP / "docs/commands.md").read_text()
    helped = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  +\S", shared("--help").out, re.MULTILINE)
    assert len(helped) > 25
    for command in helped:
        assert re.search(rf"`{command}`", text), command


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_two_commands_of_the_readme_are_targets_of_make() -> None:
    readme, makefile = (TOP / "README.md").read_text(), (TOP / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", readme, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
