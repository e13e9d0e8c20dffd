"""The conformance suite for consumers of events.

    class TestMine(ConsumerConformance):
        @pytest.fixture
        def consumer(self): ...      # your consumer, which can reach what it delivers to

        def received(self) -> list[int]: ...   # the seqs that have arrived there, in order

Tests are async: pytest-trio in trio mode.
"""

from __future__ import annotations

from typing import Any

from tiffin.hooks import EventConsumer

AWKWARD = 'quote " backslash \\ bracket ] newline \n nul \0 é 🍱'


def event(seq: int, **data: Any) -> dict[str, Any]:
    """An event by the published schema."""
    return {
        "seq": seq,
        "stream": f"container/{'a' * 64}",
        "version": seq,
        "type": "container.signal_sent",
        "time": "2026-11-25T06:38:16.571062864Z",
        "timeNano": 1_795_588_696_571_062_864 + seq,
        "command": f"{seq:016x}",
        "actor": {
            "uid": 0,
            "loginuid": 4294967295,
            "session": 4294967295,
            "pid": 7,
            "program": "/usr/bin/python3",
            "front_end": "cli",
        },
        "data": {"signal": 9, **data},
        "prev": "0" * 64,
        "hash": "f" * 64,
    }


class ConsumerConformance:
    """Give it the fixture `consumer` and the method `received`."""

    def received(self) -> list[int]:
        """The seqs that have arrived, in order. Where they arrive, only the subclass knows."""
        raise NotImplementedError("a subclass of ConsumerConformance says what has arrived")

    async def test_it_has_a_name(self, consumer: EventConsumer) -> None:
        assert consumer.name

    async def test_a_batch_arrives_in_order(self, consumer: EventConsumer) -> None:
        needed = await consumer.deliver([event(seq) for seq in range(1, 101)])
        assert needed is None or needed in range(1, 101)
        await consumer.settle(last=True)
        await consumer.close()
        assert self.received() == list(range(1, 101))

    async def test_batch_after_batch(self, consumer: EventConsumer) -> None:
        for seq in range(1, 6):
            await consumer.deliver([event(seq)])
            await consumer.settle(last=False)
        await consumer.settle(last=True)
        assert self.received() == [1, 2, 3, 4, 5]

    async def test_what_comes_again_is_taken(self, consumer: EventConsumer) -> None:
        for _ in range(2):
            await consumer.deliver([event(1), event(2)])
        await consumer.settle(last=True)
        assert set(self.received()) == {1, 2}

    async def test_any_text_is_carried(self, consumer: EventConsumer) -> None:
        await consumer.deliver([event(1, reason=AWKWARD, AWKWARD=[AWKWARD, {"deep": None}])])
        await consumer.settle(last=True)
        assert self.received() == [1]

    async def test_an_unknown_type_is_let_pass(self, consumer: EventConsumer) -> None:
        await consumer.deliver([{**event(1), "type": "teapot.boiled", "stream": "teapot/1"}])
        await consumer.settle(last=True)

    async def test_closing_twice_is_success(self, consumer: EventConsumer) -> None:
        await consumer.close()
        await consumer.close()
