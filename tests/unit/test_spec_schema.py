"""Whatever is asked for, config.json is one (runtime-spec), and says where all of it is from."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_requests import SOMEBODY, configs, devices, document, facts, options, spec

from tiffin.spec.origins import leaves, origin_of

SCHEMA = json.loads((Path(__file__).parent / "data" / "config-schema.json").read_text())
VALID = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_itself_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@settings(max_examples=60)
@given(options, configs, devices, st.booleans(), st.booleans())
def test_every_document_is_valid_and_every_leaf_has_an_origin(
    chosen: dict[str, Any], config: dict[str, Any], found: Any, v2: bool, rootless: bool
) -> None:
    made = spec(
        chosen,
        config,
        devices=found,
        facts=facts(cgroup_v2=v2, rootless=rootless),
        init_program="/usr/bin/catatonit",
        files=(("/etc/hosts", "/c/hosts"),),
    )
    VALID.validate(msgspec.json.decode(msgspec.json.encode(made.document)))
    for pointer, _ in leaves(made.document):
        origin = origin_of(made.origins, pointer)
        assert origin is not None, pointer
        assert origin.source in ("image", "user", "engine"), pointer
        assert origin.detail, pointer


@settings(max_examples=30)
@given(options, configs)
def test_the_same_request_gives_the_same_document(
    chosen: dict[str, Any], config: dict[str, Any]
) -> None:
    again = {"init_program": "/i"}
    first, second = spec(chosen, config, **again), spec(chosen, config, **again)
    assert json.dumps(first.document) == json.dumps(second.document)
    assert list(first.origins.items()) == list(second.origins.items())


@pytest.mark.parametrize(
    ("pointer", "wrong"),
    [
        (("process", "cwd"), "relative"),
        (("process", "args"), []),
        (("process", "user", "uid"), -1),
        (("mounts", 0, "destination"), "proc"),
        (("linux", "namespaces", 0, "type"), "net"),
        (("linux", "seccomp", "defaultAction"), "DENY"),
        (("surprise",), 1),
    ],
)
def test_the_schema_refuses_what_is_wrong(pointer: tuple[Any, ...], wrong: Any) -> None:
    made: Any = document(user=SOMEBODY)
    VALID.validate(made)
    node = made
    for name in pointer[:-1]:
        node = node[name]
    node[pointer[-1]] = wrong
    with pytest.raises(jsonschema.ValidationError):
        VALID.validate(made)
