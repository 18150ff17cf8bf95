"""What reaches the terminal, and how signals are taken."""

from __future__ import annotations

import os
import signal

import pytest

from upscale.cli.console import Interrupted, Interrupts, printable


def test_names_cannot_command_the_terminal() -> None:
    assert printable("a\x1b[2Jb\n.png") == r"a\x1b[2Jb\n.png"
    assert printable("\x85 x") == r"\x85 x"
    assert printable("ünï ✓ %.png") == "ünï ✓ %.png"
    assert printable(os.fsdecode(b"caf\xe9")) == "caf\udce9"


def test_a_signal_raises_at_once_outside_a_job() -> None:
    with Interrupts().caught(), pytest.raises(Interrupted) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.value.exit_code == 143


def test_inside_a_job_the_first_is_noted_and_the_second_raises() -> None:
    with Interrupts().caught() as interrupts, interrupts.gently():
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.wanted()
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts().caught():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)
