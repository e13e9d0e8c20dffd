"""The journal's export format, in whatever pieces it comes."""

from tiffin.journal import Entries

TEXT = (
    b"__CURSOR=1\nMESSAGE=plain = text\n\n"
    b"__CURSOR=2\nMESSAGE\n\x06\0\0\0\0\0\0\0a\n\nb\xff\n\nPRIORITY=3\n\n"
    b"__CURSOR=3\nMESSAGE=\n\n"
)
ENTRIES = [
    {"__CURSOR": b"1", "MESSAGE": b"plain = text"},
    {"__CURSOR": b"2", "MESSAGE": b"a\n\nb\xff\n", "PRIORITY": b"3"},
    {"__CURSOR": b"3", "MESSAGE": b""},
]


def test_entries_come_out_whole_however_they_are_cut() -> None:
    for size in range(1, len(TEXT) + 1):
        parser = Entries()
        pieces = (TEXT[at : at + size] for at in range(0, len(TEXT), size))
        assert [entry for piece in pieces for entry in parser.feed(piece)] == ENTRIES, size
