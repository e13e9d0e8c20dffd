"""What strangers' bytes go through: each parser as a function of bytes that must end, with a result
or with an error of ours. Used by test_fuzz.py, a little of each, and by `make fuzz`, for long:

    python tests/unit/fuzz_targets.py TARGET [LIBFUZZER ARGUMENTS]    (needs atheris)
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

instrumented: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
if __name__ == "__main__":
    import atheris

    instrumented = atheris.instrument_imports(include=["tiffin"])

with instrumented:
    from tiffin import (
        archives,
        conmon,
        decompress,
        detach_keys,
        logs,
        network_specs,
        process_table,
        units,
    )
    from tiffin.cli import (
        container_options,
        environment_flags,
        gotemplate,
        joins,
        limit_flags,
        network_flags,
        ports,
        volumes,
    )
    from tiffin.content import ContentStore
    from tiffin.engine import create
    from tiffin.errors import ImageError, StorageFull, TiffinError
    from tiffin.images import changes, manifest, platform, reference
    from tiffin.layer import tar
    from tiffin.layer.apply import Applier
    from tiffin.layer.remove import remove_tree
    from tiffin.layer.stream import LayerStream, Limits
    from tiffin.registry import auth, client, failures, http
    from tiffin.spec import users

LIMITS = Limits(bytes=1 << 22, header=1 << 14, entries=200, pieces=100, depth=40, memory=1 << 20)
RECORD = {
    "ID": "abc", "Names": ["a", "b"], "State": {"Pid": 1, "Ok": True, "None": None}, "N": 1.5,
    "Labels": {"x": "\x1b[31m", "y": ""}, "Size": -3,
}  # fmt: skip


@functools.cache
def _scratch() -> str:
    directory = tempfile.TemporaryDirectory(prefix="tiffin-fuzz-")
    _scratch.keep = directory  # type: ignore[attr-defined]
    os.makedirs(f"{directory.name}/root/etc")
    return directory.name


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _file(data: bytes) -> Iterator[str]:
    """The path of a file with these bytes."""
    fd = os.memfd_create("fuzz")
    try:
        os.write(fd, data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def tar_headers(data: bytes) -> None:
    stream = LayerStream(iter([data]), LIMITS.bytes)
    for count, entry in enumerate(tar.entries(stream, LIMITS)):
        assert count <= LIMITS.entries and len(entry.name) <= LIMITS.name
        assert entry.size >= 0 and b"\0" not in entry.name + entry.linkname
        if entry.sparse is not None:
            assert sum(length for _, length in entry.sparse) <= entry.real_size


def unpacked(data: bytes) -> None:
    """Whatever it is, nothing beside the directory changes."""
    top = _scratch()
    os.makedirs(f"{top}/t")
    root = os.open(f"{top}/t", os.O_RDONLY | os.O_DIRECTORY)
    try:
        Applier(root, "apply" if data[:1] < b"\x80" else "keep", LIMITS).run(
            LayerStream(iter([data[1:]]), LIMITS.bytes)
        )
    except OSError as error:
        assert error.errno in (1, 13), error  # what only root may do
    finally:
        os.close(root)
        remove_tree(f"{top}/t")
        assert sorted(os.listdir(top)) == ["root"] or "blobs" in os.listdir(top)


def archive(data: bytes) -> None:
    with _file(data) as path, open(path, "rb") as file:
        files = archives.Tar(file)
        for name in ("manifest.json", "index.json", "a", "../a"):
            if files.has(name):
                assert len(archives.read(files, name)) == files.size(name)
        store = ContentStore(f"{_scratch()}/blobs")
        if files.has("index.json"):
            archives._oci(files, store, platform.host())
        else:
            archives._docker(files, store)


def manifests(data: bytes) -> None:
    found = manifest.parse(data)
    if isinstance(found, manifest.Index):
        manifest.choose(found, platform.host())


def configs(data: bytes) -> None:
    config = manifest.parse_config(data)
    manifest.chain_ids(config.diff_ids)
    manifest.check_platform(config, platform.host())


def references(data: bytes) -> None:
    text = _text(data)
    reference.candidates(text)
    found = reference.parse(text)
    assert str(reference.parse(str(found))) == str(found)
    assert str(found).isascii() and str(found).isprintable()
    assert "/.." not in str(found)


def templates(data: bytes) -> None:
    gotemplate.render(_text(data), RECORD)


def template_actions(data: bytes) -> None:
    gotemplate.render("{{" + _text(data) + "}}", RECORD)


def compressed(data: bytes) -> None:
    for how in ("gzip", "bzip2", "xz"):
        reader = io.BufferedReader(io.BytesIO(data))
        with contextlib.suppress(ImageError):
            for count, piece in enumerate(decompress.unpack(reader, how)):
                assert len(piece) <= decompress.PIECE
                if count > 8:
                    break


def env_files(data: bytes) -> None:
    with _file(data) as path:
        for name, value in environment_flags.environment([], [path]):
            assert name and "=" not in name and "\0" not in name + value
            assert "\n" not in name + value


def container_words(data: bytes) -> None:
    """What one writes on a command line; each word on its own."""
    text = _text(data)
    for parse in (
        ports.parse_port,
        volumes.parse_volume,
        volumes.parse_mount,
        volumes.parse_tmpfs,
        create.parse_signal,
        detach_keys.parse,
        platform.parse,
        lambda word: limit_flags.ulimits([word]),
        lambda word: container_options._device(word),
        lambda word: network_flags.add_host(word),
        lambda word: container_options._hostname(word),
        lambda word: container_options._entrypoint([word]),
        lambda word: limit_flags.cpus(word),
        lambda word: limit_flags.cpuset("--cpuset-cpus", word),
        lambda word: limit_flags.restart_policy(word, False),
        lambda word: joins.parse([word], "bridge", "", "", "", []),
        network_specs.route,
        network_specs._subnet,
        network_specs.check_name,
    ):
        with contextlib.suppress(TiffinError):
            parse(text)


def quantities(data: bytes) -> None:
    text = _text(data)
    for parse in (
        units.parse_size,
        units.parse_duration,
        lambda word: units.parse_time(word, 1_700_000_000_000_000_000),
    ):
        with contextlib.suppress(TiffinError):
            assert isinstance(parse(text), int)
    with contextlib.suppress(ValueError):
        units.parse_rfc3339(text)


def log_lines(data: bytes) -> None:
    with _file(data) as path:
        for tail in (None, 0, 2):
            for record in logs.read(path, tail=tail):
                assert record.stream in ("stdout", "stderr") and b"\n" not in record.data


def accounts(data: bytes) -> None:
    given, _, files = _text(data).partition("\n")
    passwd, _, group = files.partition("\n\n")
    user = users.resolve(given, passwd, group)
    assert 0 <= user.uid <= users.MAX_ID and 0 <= user.gid <= users.MAX_ID
    assert user.home.startswith("/")
    if given.isdecimal() and given.isascii():
        assert user.uid == int(given)


def names_of_top(data: bytes) -> None:
    with open(f"{_scratch()}/root/etc/passwd", "wb") as file:
        file.write(data)
    process_table.names(f"{_scratch()}/root", "etc/passwd")


def answers(data: bytes) -> None:
    """Headers and bodies of registries."""
    text = data.decode("latin-1")
    auth.challenges([text])
    client._seconds(text)
    error = failures.refusal("r", "x", "tag y", 404, data)
    assert str(error).isprintable()
    with contextlib.suppress(TiffinError):
        origin, target = http.split(text)
        assert origin.scheme in ("http", "https") and target.startswith("/")
        assert not set(target + origin.host) & set("\r\n ")


def reports(data: bytes) -> None:
    conmon.parse_report(data)


def instructions(data: bytes) -> None:
    """`--change` of commit and import: lines of a Containerfile."""
    changes.apply({}, _text(data).split("\n"))


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        tar_headers, unpacked, archive, manifests, configs, references, templates,
        template_actions, compressed, env_files, container_words, quantities, log_lines, accounts,
        names_of_top, answers, reports, instructions,
    )
}  # fmt: skip


def run(name: str, data: bytes) -> None:
    """One input. What is not one of our errors is a finding."""
    try:
        TARGETS[name](data)
    except StorageFull:
        raise
    except TiffinError as error:
        assert str(error) and len(error.what) < 20_000


def main() -> None:
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, lambda data: run(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
