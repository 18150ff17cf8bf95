"""What the commands on keys and requests share: the database of the settings, which a running
server may be using meanwhile, and tables.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.cli.console import printable

if TYPE_CHECKING:
    from upscale.server.records.database import Database

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

# Columns in a file or a pipe are as wide as they need.
_UNBOUNDED = 10_000


@contextmanager
def records() -> Iterator[Database]:
    """The database, open within the block. Raises RecordsFault, InvalidRequest."""
    from upscale.cli.setup import load_settings
    from upscale.server.records.database import Database

    database = Database.of(load_settings())
    database.open()
    try:
        yield database
    finally:
        database.close()


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; columns whose name begins with `>` stand to the right."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if right else "left")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    width = None if sys.stdout.isatty() else _UNBOUNDED
    Console(width=width, highlight=False).print(table)


def dollars(micros: int) -> str:
    """Millionths of a dollar as people read them: `$0.04`, `$0.000123`."""
    exact = f"{micros / 1e6:.6f}".rstrip("0")
    whole, _, part = exact.partition(".")
    return f"${whole}.{part.ljust(2, '0')}"


def local_time(ms: int | None) -> str:
    """A time in records as the clock on the wall shows it."""

    if ms is None:
        return "-"
    return f"{datetime.fromtimestamp(ms // 1000):%Y-%m-%d %H:%M:%S}"
