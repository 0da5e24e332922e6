"""Python imports this when it starts: a server that forgets deduplication ids when it recovers."""

from __future__ import annotations

from typing import Any

import waystation.backend.shard
from waystation.backend.recovery import recover
from waystation.queues.deduplication import Deduplication
from waystation.queues.fifo import FifoQueue
from waystation.queues.state import ShardState


async def _recover_and_forget(*arguments: Any) -> ShardState:
    state = await recover(*arguments)
    for queue in state.queues.values():
        if isinstance(queue, FifoQueue):
            queue.deduplication = Deduplication()
    return state


setattr(waystation.backend.shard, "recover", _recover_and_forget)  # noqa: B010 - it is not exported from there
