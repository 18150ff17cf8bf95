"""The `upscale` command. Belongs here: parsing arguments, calling the rooms below, printing and
exit codes. Does not: pixel work, plans, HTTP handling. Nothing here imports torch at module level,
so that `upscale --help` answers at once.
"""

from __future__ import annotations


def main() -> None:
    """The entry point of the command: runs it and exits with its code."""
    try:
        from upscale.cli.entry import run

        run()
    except KeyboardInterrupt:
        # Ctrl-C before the command could listen for it.
        raise SystemExit(130) from None
