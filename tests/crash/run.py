"""Hundreds of rounds of faults: `make crash ROUNDS=500`. CRASH_SEED=… repeats what a run tried.

A few of them are in `make test`. Ends with 1 when a promise was broken, and keeps the data then.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import SystemRandom

from tests.crash.faults import NoCompiler, Storage, compile_faults
from tests.crash.rounds import EVERYTHING, TO_THE_PROCESS, Chapter, figures

CHAPTER_ROUNDS = 25
"""With one data directory. Each chapter ends with a drain, which takes some seconds."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Let things happen to a server under load.")
    parser.add_argument("--rounds", type=int, default=100, help="things that happen")
    parser.add_argument("--chapter", type=int, default=0, help="the first, as an earlier run named it")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.chapter < 0:
        parser.error("there has to be a round at least, and chapters count from 0")
    clean_environment()
    seed = os.environ.get("CRASH_SEED") or str(SystemRandom().randrange(10**6))
    folder = Path(tempfile.mkdtemp(prefix="waystation-crash-"))
    print(f"CRASH_SEED={seed}", flush=True)
    library = library_if_possible(folder)
    began_s = time.monotonic()
    chapters: list[Chapter] = []
    for done in range(0, arguments.rounds, CHAPTER_ROUNDS):
        number = arguments.chapter + len(chapters)
        rounds = min(CHAPTER_ROUNDS, arguments.rounds - done)
        chapters.append(run_chapter(folder / str(number), f"{seed}/{number}", library, rounds))
        result = "WRONG" if chapters[-1].found else "right"
        took_s = time.monotonic() - began_s
        print(f"{took_s:5.0f} s  chapter {number}: {result}; {chapters[-1].history}", flush=True)
        if chapters[-1].found:
            print(f"\n{chapters[-1].found}\nits data are in {chapters[-1].folder}; once more:")
            again = f"ROUNDS={CHAPTER_ROUNDS} ARGS='--chapter {number}'"
            print(f"    CRASH_SEED={seed} make crash {again}\n", flush=True)
    tell(chapters, time.monotonic() - began_s)
    if any(chapter.found for chapter in chapters):
        return 1
    shutil.rmtree(folder)
    return 0


def clean_environment() -> None:
    """No process sees this user's credentials, settings or proxies."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "WAYSTATION_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


def library_if_possible(folder: Path) -> Path | None:
    try:
        return compile_faults(folder)
    except NoCompiler as reason:
        print(f"only processes are killed and stopped: {reason}", flush=True)
        return None


def run_chapter(folder: Path, seed: str, library: Path | None, rounds: int) -> Chapter:
    folder.mkdir()
    storage = None if library is None else Storage(library, folder / "data", seed)
    chapter = Chapter(folder, seed, storage)
    chapter.run(rounds, TO_THE_PROCESS if storage is None else EVERYTHING)
    if not chapter.found:
        shutil.rmtree(folder)
    return chapter


def tell(chapters: list[Chapter], took_s: float) -> None:
    happened: Counter[str] = sum((chapter.happened for chapter in chapters), Counter())
    print(f"\n{happened.total()} things happened in {took_s:.0f} s:")
    for kind, times in happened.most_common():
        print(f"{times:10,}  {kind}")
    print("\nclients saw:")
    for what, number in figures(chapters).items():
        print(f"{number:10,}  {what}")
    print(f"\nviolations in {sum(bool(chapter.found) for chapter in chapters)} of {len(chapters)} chapters")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
