"""A contender in a process of its own: `python -m benchmarks.worker NAME CHECKPOINT`.

Says `{"ready": …}` when loaded; then, for each line `{"source": …, "target": …}` on standard input,
upscales and answers `{"seconds": …, "precision": …}`. What libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from benchmarks.contenders import CONTENDERS


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    name, checkpoint = sys.argv[1], Path(sys.argv[2])
    try:
        contender = CONTENDERS[name][1](checkpoint)
    except Exception as error:  # whatever it is, it is the reason why it is skipped
        _answer(answers, {"skipped": f"{type(error).__name__}: {error}"})
        return
    import torch

    _answer(
        answers, {"ready": True, "torch": torch.__version__, "threads": torch.get_num_threads()}
    )
    for line in sys.stdin:
        order = json.loads(line)
        began = time.perf_counter()
        precision = contender.run(Path(order["source"]), Path(order["target"]))
        _answer(answers, {"seconds": time.perf_counter() - began, "precision": precision})


def _answer(stream: TextIO, data: dict[str, Any]) -> None:
    stream.write(json.dumps(data) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
