"""The progress of a transfer: a bar on a terminal, a line a layer otherwise."""

from __future__ import annotations

import os
import pty
import sys

import pytest

from tiffin.cli import progress

ONE, TWO = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def transfer(shown: progress.Bar | progress.Lines) -> None:
    for digest in (ONE, TWO):
        shown.started(digest, 1000)
    shown.advanced(ONE, 500)
    for digest in (ONE, TWO):
        shown.finished(digest, "fetched")


def test_a_line_a_layer_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    shown = progress.for_stderr()
    assert isinstance(shown, progress.Lines)
    transfer(shown)
    assert capsys.readouterr().err == f"{'a' * 12} fetched\n{'b' * 12} fetched\n"


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setattr(progress, "REDRAW", 0)
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        shown = progress.for_stderr()
        assert isinstance(shown, progress.Bar)
        transfer(shown)
        terminal.flush()
        drawn = b""
        while not drawn.endswith(b"\n"):  # a terminal hands it over in pieces
            drawn += os.read(ours, 1 << 16)
    os.close(ours)
    text = drawn.decode()
    bars = [line for line in text.split("\r") if "█" in line or "░" in line]
    assert bars[0].count("█") == 7  # a quarter of thirty
    assert "500B of 2kB" in bars[0]
    assert bars[-1].count("█") == 30
    assert "2kB of 2kB" in bars[-1]
    assert text.count("\n") == 1


def test_nothing_when_quiet() -> None:
    assert progress.for_stderr(quiet=True) is None
