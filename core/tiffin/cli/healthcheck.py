"""`healthcheck run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine

OVER = 3
"""What the timer is told when there is nothing to check any more."""


def _run(call: Call) -> int:
    from ..engine import health
    from .session import drive

    name = call.arguments[0]
    if call.options["scheduled"]:

        async def scheduled(engine: Engine) -> int:
            return 0 if await health.scheduled(engine, name) else OVER

        return drive(call, scheduled)

    async def work(engine: Engine) -> bool:
        return await health.check(engine, name)

    if drive(call, work):
        return 0
    print("unhealthy")
    return 1


RUN = Command(
    name="healthcheck run",
    usage="CONTAINER",
    summary="Run the health check of a container now; exit code 1 when it fails",
    flags=(
        Flag("scheduled", help="for its timer: print nothing, exit with 3 when it does not run"),
    ),
    arguments=(1, 1),
    examples=("tiffin healthcheck run web",),
    run=_run,
)
