"""What the kernel says of the FrontEnd processes of a server. Linux only."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tests.server import Server


def front_ends(server: Server) -> list[int]:
    """Process ids of those that run now."""
    assert server._process is not None
    pid = server._process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    """Whether it runs, or could: what has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def sockets_of(pid: int) -> int:
    """How many it has open."""
    links = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            links.append(str(path.readlink()))
    return sum(link.startswith("socket:") for link in links)
