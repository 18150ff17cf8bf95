"""What is measured is kept, and kept apart from what is broken or old."""

import json
from pathlib import Path

from upscale.models.contract import Contract
from upscale.models.facts import Facts, FactsCache, Proof

CONTRACT = Contract("Net", 4, 3, 3, 18, 1, 1, 1, 10, 10, 10, "super-resolution")
FACTS = Facts(
    CONTRACT,
    {
        "cpu": (
            Proof("fp32", "cast", True, None, 90.0, "the reference"),
            Proof("bf16", "cast", True, 55.0, 200.0, "55 dB from fp32"),
            Proof("fp16", "cast", False, 20.0, 900.0, "20 dB from fp32"),
        )
    },
)


def test_facts_come_back_as_they_were_saved(tmp_path: Path) -> None:
    cache = FactsCache(tmp_path / "new")
    cache.save("key", FACTS)
    assert cache.load("key") == FACTS
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["key.json"]


def test_broken_missing_and_older_files_are_measured_anew(tmp_path: Path) -> None:
    cache = FactsCache(tmp_path)
    assert cache.load("missing") is None
    (tmp_path / "broken.json").write_text("{")
    assert cache.load("broken") is None
    (tmp_path / "old.json").write_text(json.dumps(FACTS.to_json() | {"schema": 0}))
    assert cache.load("old") is None


def test_a_folder_that_cannot_be_written_costs_no_more_than_a_warning(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    FactsCache(blocked).save("key", FACTS)


def test_the_fastest_safe_precision_is_taken() -> None:
    assert (best := FACTS.best("cpu", ("bf16", "fp16", "fp32"))) is not None
    assert best.precision == "bf16"
    assert FACTS.best("cpu", ("fp16",)) is None
    assert FACTS.best("cuda", ("fp32",)) is None
