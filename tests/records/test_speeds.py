"""Expectations are corrected by what was measured."""

from __future__ import annotations

from sqlalchemy import func, select

from upscale.server.records.database import Database
from upscale.server.records.speeds import Speeds
from upscale.server.records.tables import speeds as table


def test_the_factor_is_the_median_of_the_last_ratios(database: Database) -> None:
    speeds = Speeds(database)
    assert speeds.factor("net", "cpu") == 1.0
    for real in (2.0, 2.2, 1.8, 90.0):
        speeds.note("net", "cpu", pixels=100, expected=1.0, real=real)
    assert speeds.factor("net", "cpu") == 2.1
    assert speeds.factor("net", "cuda") == 1.0
    assert speeds.factor("other", "cpu") == 1.0
    for _ in range(30):
        speeds.note("net", "cpu", pixels=100, expected=1.0, real=0.5)
    assert speeds.factor("net", "cpu") == 0.5
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(table)) == 20


def test_nonsense_is_not_remembered(sqlite: Database) -> None:
    speeds = Speeds(sqlite)
    for expected, real in ((0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (float("nan"), 1.0)):
        speeds.note("net", "cpu", pixels=1, expected=expected, real=real)
    assert speeds.factor("net", "cpu") == 1.0
    speeds.note("net", "cpu", pixels=1, expected=1.0, real=1e9)
    assert speeds.factor("net", "cpu") == 20.0
