"""Every parser of strangers' bytes, with a little of what hypothesis thinks up and with what
`make fuzz` has found once (corpus/TARGET/)."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiffin.layer.write import record
from tiffin.testing.layers import directory, hardlink, layer, member, symlink, xattrs

CORPUS = Path(__file__).parent / "corpus"
DIGEST = "sha256:" + "0" * 64

SEEDS: dict[str, list[bytes]] = {
    "tar": [
        layer(member("a/b", b"x" * 600), directory("d"), symlink("l", "a"), hardlink("h", "a/b")),
        layer(member("n" * 150, b"x"), format=tarfile.GNU_FORMAT),
        layer(member("é" * 80, pax_headers=xattrs(user__a=b"1")), member("d/.wh..wh..opq")),
        layer(member("p", record(b"GNU.sparse.map", b"0,5,9,1"), tarfile.XHDTYPE), member("s")),
    ],
    "json": [
        json.dumps(document).encode()
        for document in (
            {"schemaVersion": 2, "config": {"digest": DIGEST, "size": 1}, "layers": []},
            {"schemaVersion": 2, "manifests": [{"digest": DIGEST, "size": 1}]},
            {"architecture": "amd64", "config": {"Env": ["A=b"], "Volumes": {"/v": {}}},
             "rootfs": {"diff_ids": [DIGEST]}},
        )
    ],
    "text": [
        b"{{range $i, $x := .Names}}{{printf \"%d\" $i}}{{end}}", b"printf \"%s\" .ID | json",
        b"docker.io/library/a:b@" + DIGEST.encode(), b"type=volume,src=a,dst=/b,ro",
        b"127.0.0.1:80-90:80-90/udp", b"a:/b:ro,z", b"nofile=1:2", b"on-failure:3", b"1.5gb",
        b"2024-01-02T03:04:05.678+01:00", b"1h2m3s", b"ENV a=b\nCMD [\"x\"]\nEXPOSE 80/tcp",
        b"1000\nroot:x:0:0::/:\nann:x:1000:1000::/h:\n\nann:x:1000:ann\n", b"A=b\n#c\nHOME\n",
        b"2024-01-02T03:04:05.000000000+00:00 stdout P x\n",
        b"{\"data\": -1, \"message\": \"x\"}\n",
        b"Bearer realm=\"https://a/t\",service=\"s\"", b"https://user@host:443/p?q#f",
        b"net:ip=10.0.0.1,mac=02:00:00:00:00:01", b"10.0.0.0/8,10.0.0.1,5",
    ],
}  # fmt: skip
KIND = {
    "tar_headers": "tar", "unpacked": "tar", "archive": "tar", "manifests": "json",
    "configs": "json",
}  # fmt: skip


def damaged(name: str) -> st.SearchStrategy[bytes]:
    """A seed with a few bytes changed, or cut, or two of them joined; or any bytes."""
    seeds = st.sampled_from(SEEDS[KIND.get(name, "text")])
    change = st.tuples(st.integers(0, 3000), st.binary(max_size=4), st.integers(0, 6))

    def apply(seed: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
        for place, data, gone in changes:
            at = place % (len(seed) + 1)
            seed = seed[:at] + data + seed[at + gone :]
        return seed

    mutated = st.builds(apply, seeds, st.lists(change, max_size=4))
    return mutated | st.binary(max_size=600) | st.text(max_size=80).map(str.encode)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_end_in_a_result_or_an_error_of_ours(name: str) -> None:
    for seed in SEEDS[KIND.get(name, "text")]:
        run(name, seed)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damaged(name))
    def check(data: bytes) -> None:
        run(name, data)

    check()


@pytest.mark.parametrize(
    "path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_what_was_found_once(path: Path) -> None:
    run(path.parent.name, path.read_bytes())


def main() -> None:
    """Write the seeds of a target to a directory, for `make fuzz`."""
    name, directory = sys.argv[1:]
    for number, seed in enumerate(SEEDS[KIND.get(name, "text")]):
        (Path(directory) / str(number)).write_bytes(seed)


if __name__ == "__main__":
    main()
