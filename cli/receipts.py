"""The receipt of a result as a JSON file beside it: `<name of the result>.json`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from upscale.errors import OutputFault


def receipt_path(target: Path) -> Path:
    """Where the receipt of `target` lies."""
    return target.with_name(target.name + ".json")


def write_receipt(
    target: Path, source: Path, receipt: dict[str, Any], scratch: Path, *, replace: bool
) -> None:
    """Write it, by way of the file `scratch`, whole or not at all; raises OutputFault."""
    path = receipt_path(target)
    data = {"source": str(source), "target": str(target), **receipt}
    try:
        scratch.write_text(json.dumps(data, indent=2) + "\n", encoding="ascii")
        if os.path.lexists(path) and not replace:
            raise OutputFault(f"{path} exists; --overwrite replaces it.")
        scratch.replace(path)
    except OSError as error:
        raise OutputFault(f"The receipt {path} cannot be written: {error.strerror}.") from error
    finally:
        scratch.unlink(missing_ok=True)
