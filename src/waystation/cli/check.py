"""`waystation check`: whether a data directory or a backup holds all that it should, and nothing else.

It changes nothing, works beside a running node, and says all that it finds, not only
the first. A node looks at less when it starts: at the snapshot and what came after it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path

from waystation.backend.inspection import inspect_log
from waystation.cli.data_directory import METADATA_FILE, shard_file, shard_files
from waystation.cli.errors import CommandFailed
from waystation.cli.findings import Finding, Report
from waystation.cli.manifest import differences, read_manifest
from waystation.cli.references import compare
from waystation.cli.views import Views, views_of_backup, views_of_one_moment
from waystation.frontend.access_keys import FILE_NAME, RootKeyError, load_or_create_root_key
from waystation.log.errors import LogUnavailable
from waystation.log.sqlite_reader import SqliteLogReader
from waystation.metadata.inspection import Inspected, inspect_store
from waystation.queues.state import ShardState

_ACCOUNT = "000000000000"
"""Whose key it is makes no difference to whether it can be read."""


def check(directory: Path) -> Report:
    """Verify a data directory or a backup.

    Raises:
        CommandFailed: it cannot be looked at, with one sentence on why not.
        OSError: a file cannot be read.
    """
    metadata, shards = directory / METADATA_FILE, shard_files(directory)
    if not metadata.exists() and not shards:
        raise CommandFailed(f"{directory} is not a data directory: it has no {METADATA_FILE} and no shards")
    manifest = read_manifest(directory)
    checker = _Checker(directory, is_backup=manifest is not None)
    if manifest is not None:
        for name, what in differences(directory, manifest):
            checker.damaged(name, what)
    with checker.views([path for path in (metadata, *shards) if path.exists()]) as views:
        checker.check_files(views)
        catalogue = checker.check_catalogue(views)
        states = {number: checker.check_shard(views, path) for number, path in checker.numbered(shards)}
    in_use = (
        {place.shard for queue in catalogue.queues for place in queue.places}
        if catalogue is not None
        else set()
    )
    for number in range(1 + max([*in_use, *states], default=-1)):
        if number not in states:
            checker.missing(shard_file(directory, number), "the messages in it")
    if catalogue is not None:
        whole = manifest is not None
        checker.report.findings += compare(catalogue, states, of_one_moment=whole, restore=checker.restore)
    checker.check_key()
    return checker.report


class _Checker:
    """Looks at one file after the other, and writes down what it finds."""

    def __init__(self, directory: Path, *, is_backup: bool) -> None:
        self._directory = directory
        self._is_backup = is_backup
        self.report = Report()
        self.restore = (
            "Use another backup: this one cannot be restored"
            if is_backup
            else "Stop the node, keep this directory, and restore a backup of the whole of it"
        )

    def damaged(self, where: str, what: str) -> None:
        """Write down what only another copy of the files can mend."""
        self.report.findings.append(Finding(where, what, self.restore))

    def missing(self, path: Path, content: str) -> None:
        """Write down that a file is missing, unless that is known from the manifest."""
        if all(finding.where != path.name for finding in self.report.findings):
            self.damaged(path.name, f"is missing, and with it {content}")

    def views(self, paths: list[Path]) -> AbstractContextManager[Views]:
        """Where to read the files. Nobody writes to a backup: a node that starts on one makes it none."""
        return views_of_backup(paths) if self._is_backup else views_of_one_moment(paths)

    def numbered(self, shards: list[Path]) -> list[tuple[int, Path]]:
        """Those whose name is that of a shard, by number."""
        numbered = []
        for path in shards:
            digits = path.stem.removeprefix("shard-")
            if digits.isdecimal() and shard_file(self._directory, int(digits)) == path:
                numbered.append((int(digits), path))
        return numbered

    def check_files(self, views: Views) -> None:
        """What SQLite itself says of each file."""
        for path, error in views.unreadable.items():
            self.damaged(path.name, f"cannot be read: {error}")
        for path, db in views.open.items():
            self.report.bytes += path.stat().st_size
            try:
                said = [str(line) for (line,) in db.execute("PRAGMA integrity_check(5)")]
            except sqlite3.Error as error:
                said = [str(error)]
            if said != ["ok"]:
                self.damaged(path.name, "is damaged, says SQLite: " + " / ".join(" ".join(said).split("\n")))

    def check_catalogue(self, views: Views) -> Inspected | None:
        """What is in the metadata store; None when that cannot be read."""
        path = self._directory / METADATA_FILE
        if not path.exists():
            self.missing(path, "all queues")
        db = views.open.get(path)
        if db is None:
            return None
        try:
            found = inspect_store(db)
        except sqlite3.Error as error:
            self.damaged(path.name, f"cannot be read: {error}")
            return None
        self.report.queues = len(found.queues)
        for problem in found.problems:
            self.damaged(path.name, f"is damaged: {problem}")
        # What cannot be read of it would be missed everywhere else.
        return found if not found.problems else None

    def check_shard(self, views: Views, path: Path) -> ShardState | None:
        """The state that a shard's log leads to; None when it leads to none."""
        db = views.open.get(path)
        if db is None:
            return None
        log = SqliteLogReader(path, db)
        try:
            found = asyncio.run(inspect_log(log, log.rows()))
        except LogUnavailable as error:
            self.damaged(path.name, f"cannot be read: {str(error).removeprefix(f'{path}: ')}")
            return None
        for problem in found.problems:
            self.damaged(path.name, f"is damaged: {problem.removeprefix(f'{path}: ')}")
        self.report.records += found.records
        if found.state is not None:
            self._count(found.state)
        return found.state

    def _count(self, state: ShardState) -> None:
        for queue in state.queues.values():
            counts, aside = queue.counts(state.now_ms), len(queue.aside)
            self.report.visible += counts.visible
            self.report.delayed += counts.delayed
            self.report.in_flight += counts.in_flight - aside
            self.report.aside += aside

    def check_key(self) -> None:
        """Without a file, the key comes from the environment, or the next start makes one."""
        if not (self._directory / FILE_NAME).exists():
            return
        try:
            load_or_create_root_key(self._directory, _ACCOUNT, None, None)
        except RootKeyError as error:
            self.report.findings.append(Finding(FILE_NAME, "cannot be used", str(error).rstrip(".")))
