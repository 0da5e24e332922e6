"""A node that listens to nothing, for tests of how `serve` starts and stops one.

Run as a program it is `waystation` with that node; FAKE_NODE picks how it behaves.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass

from waystation.cli.main import main
from waystation.cli.settings import Settings
from waystation.frontend.auth import AccessKey

KEY = AccessKey(id="WSEXAMPLE", secret="se/cr et", account="000000000000")


@dataclass
class FakeNode:
    """Counts its starts and stops; `fails_with` is raised by `start`, `fails_to_stop_with` by `stop`."""

    url: str = "http://127.0.0.1:4321"
    root_key: AccessKey | None = KEY
    root_key_created: bool = False
    fails_with: Exception | None = None
    fails_to_stop_with: Exception | None = None
    starts_for_ever: bool = False
    stops_for_ever: bool = False
    failure: str | None = None
    stops: int = 0

    async def start(self) -> None:
        print("fake: start", file=sys.stderr)
        if self.fails_with is not None:
            raise self.fails_with
        if self.starts_for_ever:
            await asyncio.Event().wait()

    async def stop(self) -> None:
        self.stops += 1
        print("fake: stop", file=sys.stderr)
        if self.fails_to_stop_with is not None:
            raise self.fails_to_stop_with
        if self.stops_for_ever:
            await asyncio.Event().wait()


def make_node(settings: Settings) -> FakeNode:
    behaviour = os.environ.get("FAKE_NODE", "")
    return FakeNode(
        root_key=None if behaviour == "has no key" else KEY,
        root_key_created=behaviour == "makes a key",
        starts_for_ever=behaviour == "starts for ever",
        stops_for_ever=behaviour == "stops for ever",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], make_node))
