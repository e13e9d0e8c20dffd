"""What somebody may do to the log by hand, and how `events verify` names it."""

from __future__ import annotations

import base64
import builtins
import contextlib
import json
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import stories

from tiffin.cli import main
from tiffin.errors import Corrupt, NotFound, TiffinError, UserError
from tiffin.layout import Layout
from tiffin.store import chain, log, sync

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    made = stories.tell(tmp_path)
    monkeypatch.setenv("TIFFIN_ROOT", made.root)
    monkeypatch.setenv("TIFFIN_RUNROOT", made.run)
    return made


@pytest.fixture
def hand(layout: Layout) -> Iterator[sqlite3.Connection]:
    """Somebody with sqlite3 and bad intentions."""
    with contextlib.closing(sync.open_for_append(layout.database)) as connection:
        yield connection


def said(connection: sqlite3.Connection) -> list[str]:
    return [what for _, what in chain.verify(sync.events(connection))]


def renumber(connection: sqlite3.Connection, first: int, by: int) -> None:
    order = "DESC" if by > 0 else "ASC"
    for (seq,) in connection.execute(
        f"SELECT seq FROM events WHERE seq>=? ORDER BY seq {order}", (first,)
    ).fetchall():
        connection.execute("UPDATE events SET seq=seq+? WHERE seq=?", (by, seq))


def forge(connection: sqlite3.Connection, seq: int, prev: str) -> list[Any]:
    """A row whose own hash is right."""
    fields = [seq, f"container/{stories.WEB}", 1, "container.exited", 5, "c", "{}", "{}"]
    return [*fields, prev, log.digest(prev, fields)]


def put(connection: sqlite3.Connection, row: Sequence[Any]) -> None:
    connection.execute("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?)", row)


@pytest.mark.parametrize(
    "column", ["stream", "type", "time", "command", "actor", "data", "prev", "hash", "version"]
)
def test_every_field_counts(column: str, hand: sqlite3.Connection) -> None:
    assert said(hand) == []
    value = 99 if column in ("time", "version") else "x"
    hand.execute(f"UPDATE events SET {column}=? WHERE seq=7", (value,))
    assert said(hand)[0] == "event 7 was altered"


def test_an_inserted_event_is_named_once(hand: sqlite3.Connection) -> None:
    (prev,) = hand.execute("SELECT hash FROM events WHERE seq=6").fetchone()
    renumber(hand, 7, 1)
    put(hand, forge(hand, 7, prev))
    assert said(hand) == ["event 7 was inserted, and those after it numbered anew"]
    hand.execute("UPDATE events SET hash='made up' WHERE seq=7")
    assert said(hand) == ["event 7 was inserted, and those after it numbered anew"]


def test_an_event_that_was_removed_and_covered_up(hand: sqlite3.Connection) -> None:
    hand.execute("DELETE FROM events WHERE seq=7")
    renumber(hand, 8, -1)
    assert said(hand) == ["an event was removed before event 7, and those after it numbered anew"]


def test_several_things_at_once(hand: sqlite3.Connection) -> None:
    hand.execute("UPDATE events SET actor='{}' WHERE seq=2")
    hand.execute("DELETE FROM events WHERE seq IN (9, 10)")
    hand.execute("UPDATE events SET data='{}' WHERE seq=20")
    assert said(hand) == [
        "event 2 was altered",
        "event 9..10 was removed before event 11",
        "event 20 was altered",
    ]


# --- checkpoints ----------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return new_key(tmp_path / "seal.pem")


def new_key(path: Path) -> Path:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def verify(capsys: Capture, *words: str | Path, code: int) -> list[str]:
    assert main.dispatch(["events", "verify", *map(str, words)]) == code
    return capsys.readouterr().out.splitlines()


def write_anew(hand: sqlite3.Connection, first: int) -> None:
    """What root can do: every hash from there on made right again."""
    (prev,) = hand.execute("SELECT hash FROM events WHERE seq=?", (first - 1,)).fetchone()
    for row in hand.execute("SELECT * FROM events WHERE seq>=? ORDER BY seq", (first,)).fetchall():
        hash_ = log.digest(prev, row[:8])
        hand.execute("UPDATE events SET prev=?, hash=? WHERE seq=?", (prev, hash_, row[0]))
        prev = hash_


def test_a_log_that_was_written_anew_is_convicted_by_a_checkpoint(
    layout: Layout, hand: sqlite3.Connection, key: Path, tmp_path: Path, capsys: Capture
) -> None:
    kept = tmp_path / "log.seal"
    main.dispatch(["events", "seal", "--key", str(key), "--output", str(kept)])
    stories.add(layout, ("network/n", "network.removed", {}), at=300)
    main.dispatch(["events", "seal", "--key", str(key), "--output", str(kept)])
    lines = verify(capsys, "--checkpoint", kept, "--public-key", key, code=0)
    assert lines[0] == "OK: 21 events" and len(lines) == 3
    assert lines[1].startswith("OK: checkpoint of event 20 (")

    hand.execute("UPDATE events SET actor='{}' WHERE seq=21")
    write_anew(hand, 21)
    assert verify(capsys, code=0) == ["OK: 21 events"], "the chain alone does not tell"
    lines = verify(capsys, "--checkpoint", kept, code=1)
    assert lines[0].startswith("event 21 or one before it is not what was sealed at ")
    assert lines[1].startswith("OK: checkpoint of event 20 ")
    with pytest.raises(Corrupt, match="not sealed: event 21"):
        main.dispatch(["events", "seal", "--key", str(key), "--output", str(kept)])


def test_a_tail_that_was_cut_off(
    layout: Layout, hand: sqlite3.Connection, key: Path, tmp_path: Path, capsys: Capture
) -> None:
    kept = tmp_path / "log.seal"
    main.dispatch(["events", "seal", "--key", str(key), "-o", str(kept)])
    hand.execute("DELETE FROM events WHERE seq>18")
    assert verify(capsys, code=0) == ["OK: 18 events"]
    (line,) = verify(capsys, "--checkpoint", kept, code=1)
    assert line.startswith("events 19..20, sealed at ") and line.endswith("were removed")


def test_a_checkpoint_that_was_tampered_with_or_is_anothers(
    layout: Layout, key: Path, tmp_path: Path, capsys: Capture
) -> None:
    main.dispatch(["events", "seal", "--key", str(key)])
    fields: Mapping[str, Any] = json.loads(capsys.readouterr().out)
    kept = tmp_path / "log.seal"
    for change in ({"seq": 19}, {"time": "2020-01-01T00:00:00Z"}, {"signature": "AAAA"},
                   {"key": base64.b64encode(b"x" * 32).decode()}, {"key": "??"}):  # fmt: skip
        kept.write_text(json.dumps({**fields, **change}) + "\n")
        (line,) = verify(capsys, "--checkpoint", kept, code=1)
        assert line.endswith("not signed, or altered")
    kept.write_text(json.dumps(fields) + "\n")
    verify(capsys, "--checkpoint", kept, code=0)
    other = new_key(tmp_path / "other.pem")
    (line,) = verify(capsys, "--checkpoint", kept, "--public-key", other, code=1)
    assert line == f"checkpoint of event 20: not signed by {other}, or altered"


def test_a_key_from_openssl(layout: Layout, tmp_path: Path, capsys: Capture) -> None:
    private, public = tmp_path / "k.pem", tmp_path / "k.pub"
    openssl = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)]
    subprocess.run(openssl, check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    kept = tmp_path / "log.seal"
    main.dispatch(["events", "seal", "--key", str(private), "-o", str(kept)])
    verify(capsys, "--checkpoint", kept, "--public-key", public, code=0)


def test_what_cannot_be_used_is_said_in_a_line(
    layout: Layout, hand: sqlite3.Connection, key: Path, tmp_path: Path
) -> None:
    def fails(kind: type[Exception], says: str, *words: str | Path) -> None:
        with pytest.raises(kind, match=says):
            main.dispatch(["events", *map(str, words)])

    junk = tmp_path / "junk"
    junk.write_text("junk\n")
    (tmp_path / "empty").touch()
    rsa = tmp_path / "rsa.pem"
    subprocess.run(["openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-out", rsa], check=True)
    fails(UserError, "--key FILE is needed .openssl", "seal")
    fails(NotFound, "no such file", "seal", "--key", tmp_path / "none")
    fails(UserError, "no unencrypted private key", "seal", "--key", junk)
    fails(UserError, "no Ed25519 key", "seal", "--key", rsa)
    fails(Corrupt, "line 1 is no checkpoint", "verify", "--checkpoint", junk)
    fails(Corrupt, "holds no checkpoint", "verify", "--checkpoint", tmp_path / "empty")
    fails(UserError, "needs --checkpoint", "verify", "--public-key", key)
    hand.execute("UPDATE events SET data='{}' WHERE seq=7")
    fails(Corrupt, "not sealed: event 7 was altered", "seal", "--key", key)


def test_without_cryptography(key: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(TiffinError, match=r"need the Python package cryptography .*tiffin\[seal\]"):
        main.dispatch(["events", "seal", "--key", str(key)])
