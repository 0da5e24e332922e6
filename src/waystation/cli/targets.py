"""The directory that a backup or a restore fills: new or empty before, and again if that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from waystation.cli.errors import CommandFailed
from waystation.cli.manifest import sync_directory


@contextmanager
def filled(directory: Path, *, flag: str) -> Iterator[Callable[[str], Path]]:
    """Make a directory if it is missing, and leave nothing in it unless all goes well.

    Args:
        directory: must be missing or empty.
        flag: what it was given by.

    Returns:
        Gives the path of a new file by its name: those are removed again.

    Raises:
        CommandFailed: it is neither; nothing has been changed then.
        OSError: it cannot be made or looked into.
    """
    is_new = not directory.exists()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    sync_directory(directory.parent)
    if any(directory.iterdir()):
        raise CommandFailed(f"{directory} is not empty; give {flag} a new or empty directory")
    made: set[Path] = set()

    def new(name: str) -> Path:
        made.add(directory / name)
        return directory / name

    try:
        yield new
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        if is_new:
            with suppress(OSError):  # somebody else has put something there
                directory.rmdir()
        raise
