"""A metadata store over a link: one process has the store, others use it as if they had it, too.

The side that has it keeps the last changes and numbers nothing itself: revisions are in order already.
The other side asks again and again for what is newer than the newest that it knows of, and is answered
when there is something, or after a moment that there is not. So the link may break and come back without
a change being missed; who comes too late for some is told so, and its watches are cut off.

A write is answered once all who follow have heard of it, too. So whoever is told that something was done
finds it done, whichever process is asked next. Only a process that has stood still for a while is not
waited for any longer.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from itertools import dropwhile
from typing import Any, TypeAlias, TypeVar

import msgspec

from waystation.cluster.transport_client import Link
from waystation.cluster.transport_connection import CallRefused
from waystation.metadata.store import Conflict, MetadataStore, MetadataUnavailable, Stored, Watch
from waystation.protocol.errors import Unavailable

METADATA_CALL = 2
"""The kind of call that asks something of the metadata store."""

CHANGES_MAX = 4_096
"""That are kept for those who have not asked for them yet, which takes them a millisecond."""
_PAGE_BYTES = 4_194_304
"""Of values in one answer, and one value more: well within the largest frame."""
_NEWS_S = 2.0
"""For a change to happen, until who waits for one hears that there was none. So a catalogue knows that it
is fresh long before it would have to refuse look-ups."""
_HEARD_S = 1.0
"""For all to hear of a change, until it is answered all the same. They need about a millisecond."""
_CALL_S = 20.0
"""Longer than any list takes, and shorter than clients wait."""
_PAUSE_S = 0.1

Result = TypeVar("Result")


class _Get(msgspec.Struct, frozen=True, array_like=True, tag=1):
    key: str


class _List(msgspec.Struct, frozen=True, array_like=True, tag=2):
    prefix: str
    after: str


class _Write(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A put, or without a value a delete."""

    key: str
    value: bytes | None
    expected: int


class _Follow(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Asks for changes after a revision; who does not know any session yet says 0."""

    follower: int
    session: int
    position: int


_Request: TypeAlias = _Get | _List | _Write | _Follow


class _Page(msgspec.Struct, frozen=True, array_like=True):
    found: list[Stored]
    is_last: bool


class _News(msgspec.Struct, frozen=True, array_like=True):
    """Changes after the revision asked for, up to `position`; or, if some were missed, none of them."""

    session: int
    position: int
    changes: list[Stored]
    has_missed: bool
    is_all: bool


class _Error(msgspec.Struct, frozen=True, array_like=True):
    is_conflict: bool
    text: str


_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(_Request)
_stored: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Stored | None)
_pages = msgspec.msgpack.Decoder(_Page)
_revisions = msgspec.msgpack.Decoder(int)
_news = msgspec.msgpack.Decoder(_News)
_errors = msgspec.msgpack.Decoder(_Error)


# The side that has the store


class _Follower:
    """One that follows, as long as it is known to."""

    def __init__(self, position: int) -> None:
        self.position = position
        """It has heard of everything up to this revision."""


class MetadataServer:
    """Answers the calls of all `RemoteMetadataStore`s of other processes.

    Lifecycle: build it (no I/O); `start` once the store is open; `stop` before it is closed.
    """

    def __init__(self, store: MetadataStore, changes_max: int = CHANGES_MAX) -> None:
        self._store = store
        self._changes_max = changes_max
        self._changes: deque[Stored] = deque()
        self._session = 0
        self._last = 0
        """The revision of the newest change that is known of."""
        self._forgotten = 0
        """That of the newest change which is no longer kept."""
        self._followers: dict[int, _Follower] = {}
        self._moved = asyncio.Event()
        """Set, and replaced, whenever there is a change or somebody has heard of one."""
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Keep changes from now on."""
        watch = self._begin_session()
        self._watching = asyncio.create_task(self._keep(watch), name="metadata-server")

    async def stop(self) -> None:
        """Keep none any more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    def _begin_session(self) -> Watch:
        """What was known before is worth nothing: something may have been missed."""
        self._session = secrets.randbits(63) | 1
        self._changes.clear()
        return self._store.watch("")

    async def _keep(self, watch: Watch) -> None:
        while True:
            try:
                async for change in watch:
                    self._changes.append(change)
                    self._last = change.revision
                    if len(self._changes) > self._changes_max:
                        self._forgotten = self._changes.popleft().revision
                    self._move()
                return
            except MetadataUnavailable:
                watch = self._begin_session()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def handle(self, payload: bytes) -> bytes:
        """Do what was asked. Raises `CallRefused`. If cancelled, a write happens or not."""
        try:
            request = _requests.decode(payload)
            match request:
                case _Get():
                    return _encoder.encode(await self._store.get(request.key))
                case _List():
                    return _encoder.encode(await self._list(request))
                case _Write():
                    return _encoder.encode(await self._write(request))
                case _:
                    return _encoder.encode(await self._follow(request))
        except Conflict as conflict:
            raise CallRefused(_encoder.encode(_Error(True, str(conflict)))) from conflict
        except Unavailable as error:
            raise CallRefused(_encoder.encode(_Error(False, error.message))) from error

    async def _list(self, request: _List) -> _Page:
        found = dropwhile(lambda each: each.key <= request.after, await self._store.list(request.prefix))
        return _Page(*_page(found))

    async def _write(self, request: _Write) -> int:
        if request.value is None:
            revision = await self._store.delete(request.key, request.expected)
        else:
            revision = await self._store.put(request.key, request.value, request.expected)
        await self._until_heard(revision)
        return revision

    async def _until_heard(self, revision: int) -> None:
        """Return once all who follow have heard of a change, or those who have not are given up."""
        try:
            async with asyncio.timeout(_HEARD_S):
                while any(each.position < revision for each in self._followers.values()):
                    await self._moved.wait()
        except TimeoutError:
            # They are waited for again when they ask again.
            self._followers = {
                number: each for number, each in self._followers.items() if each.position >= revision
            }

    async def _follow(self, request: _Follow) -> _News:
        session, position = self._session, request.position
        if request.session != session or position < self._forgotten:
            return _News(session, self._last, [], True, True)
        follower = self._followers[request.follower] = _Follower(position)
        self._move()
        try:
            async with asyncio.timeout(_NEWS_S):
                while self._last <= position and session == self._session:
                    await self._moved.wait()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            # It has gone, and nobody has to wait until it hears of something.
            if self._followers.get(request.follower) is follower:
                del self._followers[request.follower]
                self._move()
            raise
        if session != self._session or position < self._forgotten:
            return _News(self._session, self._last, [], True, True)
        changes, is_all = _page(each for each in self._changes if each.revision > position)
        return _News(session, changes[-1].revision if changes else position, changes, False, is_all)


def _page(values: Iterable[Stored]) -> tuple[list[Stored], bool]:
    """As many as one answer should hold, and whether they are all."""
    page: list[Stored] = []
    size = 0
    for each in values:
        if size >= _PAGE_BYTES:
            return page, False
        page.append(each)
        size += len(each.key) + len(each.value or b"")
    return page, True


# The side that uses it


class RemoteMetadataStore:
    """Implements `MetadataStore` with that of the process at the other end of a link.

    The link is closed by whoever made it, after this.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._is_open = False
        self._number = secrets.randbits(63)
        self._session = 0
        self._position = 0
        """Watches have been told of everything up to this revision."""
        self._seen = 0
        """The newest revision that was heard of, from a watch or otherwise."""
        self._confirmed_s = 0.0
        self._watches: dict[Watch, int] = {}
        """And the newest revision that each is not to be told of."""
        self._following: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._is_open = True
        await self._take_news()
        self._following = asyncio.create_task(self._follow(), name="metadata-follow")

    async def close(self) -> None:
        self._is_open = False
        for watch in self._watches:
            watch.close()
        self._watches = {}
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def get(self, key: str) -> Stored | None:
        found: Stored | None = await self._ask(_Get(key), _stored.decode)
        self._note(() if found is None else (found,))
        return found

    async def list(self, prefix: str) -> list[Stored]:
        found: list[Stored] = []
        is_last = False
        while not is_last:
            page = await self._ask(_List(prefix, found[-1].key if found else ""), _pages.decode)
            found += page.found
            is_last = page.is_last
        self._note(found)
        return found

    async def put(self, key: str, value: bytes, expected: int) -> int:
        return await self._write(_Write(key, value, expected))

    async def delete(self, key: str, expected: int) -> int:
        return await self._write(_Write(key, None, expected))

    async def _write(self, request: _Write) -> int:
        # Shielded: what has been begun is done, also when its caller goes away.
        revision = await self._ask(request, _revisions.decode, shielded=True)
        self._seen = max(self._seen, revision)
        return revision

    def watch(self, prefix: str) -> Watch:
        watch = Watch(prefix)
        watch.confirmed_s = self._confirmed_s
        self._watches[watch] = self._seen
        return watch

    def _note(self, found: Iterable[Stored]) -> None:
        self._seen = max(self._seen, max((each.revision for each in found), default=0))

    async def _ask(
        self,
        request: _Request,
        read: Callable[[bytes], Result],
        timeout_s: float = _CALL_S,
        *,
        shielded: bool = False,
    ) -> Result:
        if not self._is_open:
            raise MetadataUnavailable("The metadata store is not open.")
        call = self._link.call(METADATA_CALL, _encoder.encode(request), timeout_s, read, _read_error)
        try:
            return await (asyncio.shield(call) if shielded else call)
        except Unavailable as error:
            raise MetadataUnavailable(error.message) from error

    # Following

    async def _follow(self) -> None:
        while True:
            try:
                await self._take_news()
            except MetadataUnavailable:
                # That the link is broken has been said, and it mends itself.
                await asyncio.sleep(_PAUSE_S)

    async def _take_news(self) -> None:
        """Ask for changes once, and tell watches of them."""
        asked_s = asyncio.get_running_loop().time()
        request = _Follow(self._number, self._session, self._position)
        news = await self._ask(request, _news.decode, _NEWS_S + _CALL_S)
        self._watches = {watch: after for watch, after in self._watches.items() if not watch.is_over}
        if news.has_missed:
            for watch in self._watches:
                watch.cut_off("Changes of the metadata store were missed.")
        self._session, self._position = news.session, news.position
        self._seen = max(self._seen, news.position)
        for change in news.changes:
            for watch, after in self._watches.items():
                if change.revision > after:
                    watch.notify(change)
        if news.is_all:
            self._confirmed_s = asked_s
            for watch in self._watches:
                watch.confirmed_s = asked_s
        # Whoever reads the watches does so before the other side is told that it was heard here.
        await asyncio.sleep(0)


def _read_error(payload: bytes) -> Exception:
    error = _errors.decode(payload)
    return Conflict(error.text) if error.is_conflict else MetadataUnavailable(error.text)
