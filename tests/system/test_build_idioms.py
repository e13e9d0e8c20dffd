"""A thousand lines of what people write in Dockerfiles, built and run."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.building import Context
from support.cli import Tiffin

IDIOMS = Path(__file__).parent / "support/idioms"


def test_a_thousand_lines(shared: Tiffin, tmp_path: Path) -> None:
    text = (IDIOMS / "Dockerfile").read_text()
    assert len(text.splitlines()) >= 1000
    shutil.copytree(IDIOMS, tmp_path, dirs_exist_ok=True)
    secret = tmp_path.parent / f"{tmp_path.name}.key"
    secret.write_text("key\n")
    context = Context(shared, tmp_path)
    flags = ("--secret", f"id=rails_master_key,src={secret}", "--build-arg=BUILD_DATE=2026-11-28")
    done = context.build(None, *flags, "-t", "idioms", timeout=600)
    steps = sum("] STEP " in line for line in done.lines)
    assert steps > 330
    assert "registry.invalid" not in done.out, "what nothing needs is not built"
    assert context.run("idioms").out == "22 of 22 as nobody in /collected\n"
    config = context.config("idioms")
    assert config["Labels"]["org.label-schema.build-date"] == "2026-11-28"
    assert config["Labels"]["org.opencontainers.image.description"] == "What all others begin with"
    again = context.build(None, *flags, "-t", "idioms")
    assert again.lines[-1] == done.lines[-1]
    stages = sum("] STEP 1/" in line for line in again.lines)
    assert again.out.count("Using cache") == steps - stages, "all but the FROMs"
    assert not context.left()
    shared("volume", "prune", "-f")
