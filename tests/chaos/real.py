"""The whole server, with the device worker and the bundled network; arguments as of `program`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from upscale.server.main import serve
from upscale.settings import Settings

if __name__ == "__main__":
    settings = Settings(data_dir=Path(sys.argv[1]), **{"port": 0, **json.loads(sys.argv[3])})
    serve(settings, ready=lambda url, _: print(url, flush=True))
