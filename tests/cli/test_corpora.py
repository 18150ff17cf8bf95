"""All good and broken pictures of the test data in one batch of the real command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import corpora
from tests.cli.conftest import Run, draw

pytestmark = pytest.mark.slow

LINE = re.compile(r"^(?P<source>.+) -> (?P<target>.+?)  \d+x\d+, \w+, [\d.]+ s, .*$")


def test_one_batch_upscales_or_refuses_every_file(run: Run, tmp_path: Path) -> None:
    cases = corpora.cases()
    last = draw(tmp_path / "last.png")  # the batch gets to its end
    model = corpora.tiny_network(tmp_path / "weights")
    env = {"UPSCALE_WEIGHTS_DIR": str(tmp_path / "weights"), "UPSCALE_TILE_THREADS": "1"}
    files = [*(case.path for case in cases), last]
    done = run("image", *files, "-o", tmp_path / "out", "-m", model, env=env)
    assert done.returncode == 1  # some files failed; -6 or -11 would be a crash

    results = {m["source"]: m["target"] for m in map(LINE.match, done.stdout.splitlines()) if m}
    said = _said(done.stderr, [str(path) for path in files])
    assert str(last) in results
    upscaled = 0
    for case in cases:
        if target := results.get(str(case.path)):
            corpora.check_result(case, Path(target))
            upscaled += 1
            continue
        assert not case.must_work, f"{case.name}: {said[str(case.path)]}"
        (problem,) = said[str(case.path)]  # one line, and one that says something
        assert len(problem) > 20, case.name
        assert "Error:" not in problem, case.name  # the name of a class of Python's
        assert corpora.REFUSED.get(case.name, "") in problem
    assert upscaled > len(cases) / 2


def _said(text: str, paths: list[str]) -> dict[str, list[str]]:
    """What standard error says of each file; nothing else may stand there but the summary."""
    found: dict[str, list[str]] = {path: [] for path in paths}
    *lines, summary = text.splitlines()
    assert re.fullmatch(r"\d+ done, \d+ failed\.", summary), summary
    for line in lines:
        about = [path for path in paths if line.startswith(f"{path}: ")]
        assert about, f"chatter: {line}"
        found[about[0]].append(line[len(about[0]) + 2 :])
    return found
