"""Everything between an HTTP request and the storage engines: built, started and stopped together."""

from __future__ import annotations

from collections.abc import Callable

from waystation.backend.backend import Backend
from waystation.backend.clock import wall_clock_ms
from waystation.backend.settings import BackendSettings
from waystation.frontend.app import App
from waystation.frontend.auth import Authenticator
from waystation.frontend.dead_letter_service import DeadLetterService
from waystation.frontend.dead_letters import DeadLetterDelivery
from waystation.frontend.handles import Handles
from waystation.frontend.http_messages import Request, Response
from waystation.frontend.message_service import MessageService
from waystation.frontend.move_runner import MoveRunner
from waystation.frontend.move_service import MoveService
from waystation.frontend.permission_service import PermissionService
from waystation.frontend.queue_service import QueueService
from waystation.frontend.settings import ServiceSettings
from waystation.frontend.tag_service import TagService
from waystation.log.interface import Log
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.move_tasks import MoveTasks
from waystation.metadata.store import MetadataStore


class DataPlane:
    """Catalogue, backend and services over a metadata store and the logs of all shards.

    Lifecycle: build it (no I/O), `start`, `handle` requests, `drain`, and `stop`, also
    after a start that failed or was cancelled half-way.

    Args:
        find_logs: says which logs there are, once the catalogue is known. What it raises, `start` raises.
        clock_ms: Unix time in milliseconds, for all there is in it.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        backend_settings: BackendSettings,
        store: MetadataStore,
        find_logs: Callable[[Catalogue], list[Log]],
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._settings = settings
        self._backend_settings = backend_settings
        self._store = store
        self._find_logs = find_logs
        self._clock_ms = clock_ms
        self._app: App | None = None
        self._runner: MoveRunner | None = None
        self.catalogue = Catalogue(store)
        self.backend: Backend | None = None
        """Known as soon as the logs are."""

    async def start(self, authenticator: Authenticator) -> None:
        """Recover, and be ready for requests.

        Raises:
            LogDamaged: of the first shard that does not serve.
            LogUnavailable, MetadataUnavailable: a storage engine cannot be used now.
        """
        await self._store.open()
        await self.catalogue.start()
        self.backend = Backend(self._find_logs(self.catalogue), self._backend_settings, self._clock_ms)
        tasks = MoveTasks(self._store)
        delivery = DeadLetterDelivery(
            self.catalogue, self.backend, Handles(self.catalogue.secret), self._clock_s
        )
        runner = MoveRunner(tasks, self.catalogue, self.backend, delivery.deliver, self._clock_s)
        self.backend.carry_with(runner.deliver)
        await self.backend.start()
        queues = QueueService(self._settings, self.catalogue, self.backend, self._clock_s)
        await queues.reconcile()
        self._runner = runner
        await runner.start()
        self._app = build_app(
            self._settings, authenticator, self.catalogue, self.backend, tasks, runner, self._clock_s
        )

    async def handle(self, request: Request) -> Response:
        """Answer a request; once it has started."""
        assert self._app is not None, "requests come after the start"
        return await self._app.handle(request)

    def drain(self) -> None:
        """Answer all long polls now, and let none wait any more."""
        if self.backend is not None:
            self.backend.drain()

    async def stop(self) -> None:
        """Stop everything. What was acknowledged is durable; what waits is refused."""
        if self._runner is not None:
            await self._runner.stop()
        if self.backend is not None:
            await self.backend.stop()
        await self.catalogue.stop()
        await self._store.close()

    def _clock_s(self) -> float:
        return self._clock_ms() / 1_000


def build_app(
    settings: ServiceSettings,
    authenticator: Authenticator,
    catalogue: Catalogue,
    backend: Backend,
    tasks: MoveTasks,
    runner: MoveRunner,
    clock_s: Callable[[], float],
) -> App:
    """An app with all its services."""
    return App(
        settings,
        authenticator,
        QueueService(settings, catalogue, backend, clock_s),
        MessageService(catalogue, backend, Handles(catalogue.secret)),
        TagService(catalogue),
        PermissionService(settings, catalogue, clock_s),
        DeadLetterService(settings, catalogue),
        MoveService(settings, catalogue, backend, tasks, runner, clock_s),
        backend.is_serving,
    )
