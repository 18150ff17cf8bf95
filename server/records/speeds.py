"""How long work really took beside what its Plan expected, by network and device."""

from __future__ import annotations

from statistics import median

from sqlalchemy import delete, insert, select

from upscale.server.records.database import Database
from upscale.server.records.tables import speeds
from upscale.server.records.times import now_ms

_LAST = 20
_LARGEST_FACTOR = 20.0


class Speeds:
    """Measurements in `database`; the last ones of each network on each device are kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, network: str, device: str, *, pixels: int, expected: float, real: float) -> None:
        """Remember one piece of work: pixels of its result, seconds expected and taken."""
        if not (expected > 0 and real > 0):
            return
        row = {"network": network, "device": device, "pixels": pixels, "at": now_ms()}
        row |= {"expected_seconds": expected, "real_seconds": real}
        those = (speeds.c.network == network, speeds.c.device == device)
        kept = select(speeds.c.id).where(*those).order_by(speeds.c.id.desc()).limit(_LAST)
        with self._database.write() as connection:
            connection.execute(insert(speeds).values(row))
            connection.execute(delete(speeds).where(*those, speeds.c.id.not_in(kept)))

    def factor(self, network: str, device: str) -> float:
        """By what to multiply an expectation: the median of the last ratios, from 1/20 to 20; 1.0
        where nothing is known. A median, so that one job on a busy machine changes nothing.
        """
        asked = select(speeds.c.expected_seconds, speeds.c.real_seconds).where(
            speeds.c.network == network, speeds.c.device == device
        )
        with self._database.read() as connection:
            rows = connection.execute(asked).all()
        ratios: list[float] = [row.real_seconds / row.expected_seconds for row in rows]
        if not ratios:
            return 1.0
        return min(_LARGEST_FACTOR, max(1 / _LARGEST_FACTOR, median(ratios)))
