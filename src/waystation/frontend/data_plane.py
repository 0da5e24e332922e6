"""Everything between an HTTP request and the storage engines: built, started and stopped together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from waystation.backend.backend import Backend
from waystation.backend.clock import wall_clock_ms
from waystation.backend.interface import Shards
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
from waystation.frontend.parts import Parts
from waystation.frontend.permission_service import PermissionService
from waystation.frontend.queue_service import QueueService
from waystation.frontend.reconciler import Reconciler
from waystation.frontend.settings import ServiceSettings
from waystation.frontend.stored_queues import StoredQueues
from waystation.frontend.tag_service import TagService
from waystation.log.interface import Log
from waystation.metadata.catalogue import Catalogue
from waystation.metadata.move_register import MoveRegister
from waystation.metadata.store import MetadataStore


class DataPlane:
    """Catalogue, backend and services over a metadata store and the logs of all shards.

    Lifecycle: build it (no I/O), `start`, `handle` requests, `drain`, and `stop`, also
    after a start that failed or was cancelled half-way.

    Args:
        find_logs: says which logs there are, once the catalogue is known. What it raises, `start` raises.
        clock_ms: Unix time in milliseconds, for all there is in it.
        route: makes, of the shards that are here, all that there are: for a node of a cluster, to which
            shards come and from which they go. Whoever has `backend` take and release them also calls
            `shard_taken` and `shard_lost`. None: all are here, and taken at the start.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        backend_settings: BackendSettings,
        store: MetadataStore,
        find_logs: Callable[[Catalogue], Sequence[Log]],
        clock_ms: Callable[[], int] = wall_clock_ms,
        route: Callable[[Backend], Shards] | None = None,
    ) -> None:
        self._settings = settings
        self._backend_settings = backend_settings
        self._store = store
        self._find_logs = find_logs
        self._clock_ms = clock_ms
        self._route = route
        self._app: App | None = None
        self._runner: MoveRunner | None = None
        self._reconciler: Reconciler | None = None
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
        logs = self._find_logs(self.catalogue)
        self.backend = here = Backend(logs.__getitem__, len(logs), self._backend_settings, self._clock_ms)
        shards: Shards = here if self._route is None else self._route(here)
        stored = StoredQueues(self._store)
        register = MoveRegister(self._store)
        handles = Handles(self.catalogue.secret)
        delivery = DeadLetterDelivery(self.catalogue, stored, shards, handles, self._clock_s)
        self._reconciler = Reconciler(self.catalogue, stored, here)
        self._runner = runner = MoveRunner(
            register, self.catalogue, stored, here, delivery.deliver, self._clock_s
        )
        here.carry_with(runner.deliver)
        if self._route is None:
            await here.start()
            for shard in range(len(logs)):
                await self._reconciler.reconcile(shard)
                runner.take(shard)
        await runner.start()
        self._app = build_app(self._settings, authenticator, self.catalogue, shards, register, self._clock_s)

    def shard_taken(self, number: int) -> None:
        """A shard has come, and serves: its queues are compared with the catalogue, and its moves go on."""
        if self._reconciler is not None and self._runner is not None:
            self._reconciler.follow(number)
            self._runner.take(number)

    def shard_lost(self, number: int) -> None:
        """A shard has gone, or serves no more."""
        if self._reconciler is not None and self._runner is not None:
            self._reconciler.leave(number)
            self._runner.leave(number)

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
        if self._reconciler is not None:
            await self._reconciler.stop()
        if self._runner is not None:
            await self._runner.stop()
        if self.backend is not None:
            await self.backend.stop()
        if self._runner is not None:
            await self._runner.save()
        await self.catalogue.stop()
        await self._store.close()

    def _clock_s(self) -> float:
        return self._clock_ms() / 1_000


def build_app(
    settings: ServiceSettings,
    authenticator: Authenticator,
    catalogue: Catalogue,
    shards: Shards,
    register: MoveRegister,
    clock_s: Callable[[], float],
) -> App:
    """An app with all its services."""
    parts = Parts(shards)
    return App(
        settings,
        authenticator,
        QueueService(settings, catalogue, shards, parts, clock_s),
        MessageService(catalogue, shards, parts, Handles(catalogue.secret)),
        TagService(catalogue),
        PermissionService(settings, catalogue, clock_s),
        DeadLetterService(settings, catalogue),
        MoveService(settings, catalogue, parts, register, clock_s),
        shards.is_serving,
    )
