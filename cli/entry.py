"""The command from its first line to its exit code: errors become one line and a number."""

from __future__ import annotations

import os
import sys
import warnings
from typing import NoReturn

from upscale.cli.app import app
from upscale.cli.console import FAILED, INTERRUPTED, USAGE, Interrupted, complain, prepare_streams
from upscale.errors import (
    CheckpointError,
    InvalidRequest,
    ModelDisabled,
    ModelNotFound,
    UpscaleError,
)


def run() -> NoReturn:
    """Run the command that the arguments name, and exit."""
    prepare_streams()
    if not sys.warnoptions:
        # Warnings of libraries are for those who write programs with them.
        warnings.simplefilter("ignore")
    try:
        app(prog_name="upscale")
    except UpscaleError as error:
        complain(f"Error: {error.message}")
        sys.exit(_exit_code(error))
    except (KeyboardInterrupt, Interrupted):
        complain("Interrupted.")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away. Nothing more can be said, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    sys.exit(0)


def _exit_code(error: UpscaleError) -> int:
    """Wrong usage is told from what failed."""
    if isinstance(error, CheckpointError):
        return FAILED
    return USAGE if isinstance(error, InvalidRequest | ModelNotFound | ModelDisabled) else FAILED
