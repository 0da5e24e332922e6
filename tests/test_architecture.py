"""The boxes stay boxes: imports point one way, pure code stays pure, and files stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "waystation"
FILE_LINES_MAX = 500

MAY_IMPORT: dict[str, set[str]] = {
    "cli": {"backend", "cluster", "frontend", "log", "metadata", "protocol", "queues", "telemetry"},
    "frontend": {"backend", "log", "metadata", "protocol", "queues", "telemetry"},
    "backend": {"log", "metadata", "protocol", "queues", "telemetry"},
    "cluster": {"backend", "log", "metadata", "protocol", "queues", "telemetry"},
    "metadata": {"log", "protocol", "queues", "telemetry"},
    "queues": {"protocol.errors", "protocol.limits"},
    "log": {"protocol"},
    "protocol": set(),
    "telemetry": set(),
}
"""What each box may import of ours, beside itself; a name with a dot stands for that module alone."""

PURE = {"protocol", "queues"}
IMPURE_MODULES = {"asyncio", "os", "random", "secrets", "socket", "sqlite3", "threading", "time"}


def imported_names(code: str) -> Iterator[str]:
    """Every module that the code imports, and every name it takes from one, wherever it does so."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(level=0, module=str(module), names=names):
                yield from (f"{module}.{each.name}" for each in names)
            case ast.ImportFrom(level=level) if level > 0:
                # Linting refuses them; here they would hide which box is meant.
                yield "waystation.relative"


def is_allowed(box: str, name: str) -> bool:
    """`box` may import `name`, a dotted path below a module of ours or of others."""
    top, _, inside = name.partition(".")
    if top != "waystation":
        return not (box in PURE and top in IMPURE_MODULES)
    target = inside.split(".")[0]
    if target in {box, "__version__"}:
        return True
    return any(f"{inside}.".startswith(f"{each}.") for each in MAY_IMPORT[box])


def violations(source: Path) -> list[str]:
    """Each import below `source`, a folder of boxes, that points the wrong way."""
    return [
        f"{path.relative_to(source)} imports {name}"
        for path in sorted(source.rglob("*.py"))
        if (box := path.relative_to(source).parts[0]) in MAY_IMPORT
        for name in imported_names(path.read_text(encoding="utf-8"))
        if not is_allowed(box, name)
    ]


def test_imports_point_one_way() -> None:
    assert violations(SOURCE) == []


def test_every_package_is_a_known_box() -> None:
    """A new box has to say first whom it may know."""
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}

    assert packages == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("box", "line"),
    [
        ("backend", "from waystation.frontend.settings import HttpSettings"),
        ("backend", "import waystation.cli"),
        ("metadata", "from waystation import frontend"),
        ("queues", "from waystation.protocol.operations import SendMessage"),
        ("queues", "def f():\n    import time"),
        ("queues", "from os.path import join"),
        ("protocol", "import asyncio.events"),
        ("protocol", "from ..queues import commands"),
        ("log", "if TYPE_CHECKING:\n    from waystation.queues.events import Event"),
        ("telemetry", "from waystation.protocol.limits import BATCH_ENTRIES_MAX"),
    ],
)
def test_an_import_that_points_the_wrong_way_is_found(tmp_path: Path, box: str, line: str) -> None:
    (tmp_path / box).mkdir()
    (tmp_path / box / "planted.py").write_text(line)

    [found] = violations(tmp_path)

    assert found.startswith(f"{box}/planted.py imports ")


@pytest.mark.parametrize(
    ("box", "line"),
    [
        ("cli", "from waystation.frontend.settings import HttpSettings"),
        ("cli", "from waystation import __version__"),
        ("backend", "import asyncio"),
        ("queues", "from waystation.protocol.errors import OverLimit"),
        ("queues", "from waystation.protocol import limits"),
        ("queues", "from waystation.queues.events import Event"),
    ],
)
def test_an_import_that_points_the_right_way_is_left_alone(tmp_path: Path, box: str, line: str) -> None:
    (tmp_path / box).mkdir()
    (tmp_path / box / "planted.py").write_text(line)

    assert violations(tmp_path) == []


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    root = SOURCE.parent.parent
    files = [path for folder in ("src", "tests", "bench") for path in (root / folder).rglob("*.py")]
    lengths = {str(path.relative_to(root)): len(path.read_text().splitlines()) for path in files}

    assert files
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_every_module_says_what_it_is_for() -> None:
    files = list(SOURCE.rglob("*.py"))

    assert files
    assert [path.name for path in files if not ast.get_docstring(ast.parse(path.read_text()))] == []
