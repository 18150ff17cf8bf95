"""Costs as torch's own flop counter has them."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests import networks
from upscale.models.cost import measure_cost
from upscale.models.loading import Loaded
from upscale.models.runner import Runner


@pytest.mark.parametrize(
    "build",
    [networks.compact, networks.span, networks.dncnn, networks.swinir, networks.rrdb],
)
def test_multiply_adds_are_those_of_the_flop_counter(build: Callable[[], Loaded]) -> None:
    runner = Runner(build())
    counts = []
    for side in (32, 64):
        with FlopCounterMode(display=False) as counter:
            runner(torch.full((1, runner.channels, side, side), 0.5))
        counts.append(counter.get_total_flops() // 2)
    assert measure_cost(runner)[0] == pytest.approx((counts[1] - counts[0]) / 3072, rel=0.02)


def test_a_compact_keeps_two_of_its_maps_alive() -> None:
    runner = Runner(networks.compact(features=32, convs=6))
    _, peak = measure_cost(runner)
    # Two maps of 32 channels in fp32, and little else.
    assert 2 * 32 * 4 <= peak <= 2.5 * 32 * 4
