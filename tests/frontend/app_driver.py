"""The FrontEnd and all below it in this process, over memory, at a time that the test sets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from waystation.backend.backend import Backend
from waystation.backend.settings import BackendSettings
from waystation.frontend.app import App
from waystation.frontend.auth import Authenticator, Caller
from waystation.frontend.data_plane import build_app
from waystation.frontend.dead_letters import DeadLetterDelivery
from waystation.frontend.handles import Handles
from waystation.frontend.http_messages import Request, Response
from waystation.frontend.move_runner import MoveRunner
from waystation.frontend.reconciler import Reconciler
from waystation.frontend.settings import AuthSettings, ServiceSettings
from waystation.frontend.stored_queues import StoredQueues
from waystation.log.memory import MemoryLog
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.move_register import MoveRegister
from waystation.metadata.move_tasks import MoveStatus
from waystation.metadata.sqlite import SqliteMetadataStore
from waystation.queues.snapshots import to_snapshot

ACCOUNT = "000000000000"
BASE_URL = "http://queues.test:9324"
START_MS = 1_700_000_000_000

Result = TypeVar("Result")


class Refused(Exception):
    """The app answered with an error."""

    def __init__(self, response: Response) -> None:
        error = json.loads(response.body)
        self.status = response.status
        self.type: str = error["__type"].rpartition("#")[2]
        self.message: str = error["message"]
        super().__init__(f"{self.status} {self.type}: {self.message}")


class AppDriver:
    """An app in an event loop of its own, which runs only while it is called.

    Its clock stands still until the test moves it; long polls wait in real time.
    The names of deleted queues are free at once, unless the test says otherwise.
    Without `carries`, dead letters stay where they are, and nothing happens but by requests.
    Use it in a `with` block.
    """

    def __init__(self, *, shards: int = 2, carries: bool = True, **service: Any) -> None:
        self.now_ms = START_MS
        self.settings = ServiceSettings(account=ACCOUNT, **{"name_reuse_s": 0, **service})
        self.catalogue = Catalogue(SqliteMetadataStore(Path(":memory:")))
        self.backend = Backend(lambda _: MemoryLog(), shards, BackendSettings(), lambda: self.now_ms)
        self.app: App
        self.reconciler: Reconciler
        self.tasks: MoveRegister
        self.runner: MoveRunner
        self._carries = carries
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self.run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._stop())
        self._runner.close()

    async def _start(self) -> None:
        await self.catalogue._store.open()
        await self.catalogue.start()
        handles = Handles(self.catalogue.secret)
        stored = StoredQueues(self.catalogue._store)
        delivery = DeadLetterDelivery(self.catalogue, stored, self.backend, handles, self.clock)
        self.tasks = MoveRegister(self.catalogue._store)
        self.runner = MoveRunner(
            self.tasks, self.catalogue, stored, self.backend, delivery.deliver, self.clock
        )
        self.reconciler = Reconciler(self.catalogue, stored, self.backend)
        if self._carries:
            self.backend.carry_with(self.runner.deliver)
        await self.backend.start()
        for shard in range(len(self.backend.shards)):
            self.runner.take(shard)
        await self.runner.start()
        everybody = Authenticator(
            AuthSettings(enabled=False), lambda _: None, anonymous=Caller(ACCOUNT, "anonymous")
        )
        self.app = self.app_for(everybody)

    def app_for(self, authenticator: Authenticator) -> App:
        """An app over the same queues that asks somebody else who calls."""
        return build_app(self.settings, authenticator, self.catalogue, self.backend, self.tasks, self.clock)

    def clock(self) -> float:
        return self.now_ms / 1_000

    async def _stop(self) -> None:
        self.backend.drain()
        await self.runner.stop()
        await self.backend.stop()
        await self.catalogue.stop()
        await self.catalogue._store.close()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(work)

    def advance(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1_000)

    def handle(self, request: Request) -> Response:
        return self.run(self.app.handle(request))

    def post(self, operation: str, body: bytes, **headers: str) -> Response:
        return self.handle(request_of(operation, body, **headers))

    def call(self, operation: str, **members: Any) -> dict[str, Any]:
        """The answer to an operation, `{}` for an empty one. Raises `Refused`."""
        response = self.post(operation, json.dumps(members).encode())
        if response.status != 200:
            raise Refused(response)
        answer: dict[str, Any] = json.loads(response.body or b"{}")
        return answer

    def create_queue(self, name: str = "orders", **attributes: str) -> str:
        url: str = self.call("CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    async def reconcile(self) -> None:
        """As a node does that has just started."""
        for shard in self.backend.shards:
            await self.reconciler.reconcile(shard.number)

    def end_moves(self) -> None:
        """As if all moves that have begun had ended."""
        for task in self.run(self.tasks.active()):
            ended = msgspec.structs.replace(task, status=MoveStatus.COMPLETED)
            self.run(self.tasks.save(lambda ended=ended: ended))  # type: ignore[misc]

    def picture(self) -> list[bytes]:
        """Everything that a request could have changed: equal pictures, equal queues and moves."""
        shards = [to_snapshot(shard.state) for shard in self.backend.shards]
        queues = sorted((queue.record.name, queue) for queue in self.catalogue.queues())
        records = [msgspec.msgpack.encode(queue.record) for _, queue in queues]
        return [*shards, *records, msgspec.msgpack.encode(self.run(self.tasks.active()))]


def request_of(operation: str, body: bytes, **headers: str) -> Request:
    """A request as the HTTP server hands it on; `_` in the names of headers stands for `-`."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    all_headers = {"host": "queues.test:9324", "x-amz-target": f"AmazonSQS.{operation}", **given}
    return Request("POST", "/", "/", "", all_headers, body, secure=False)
