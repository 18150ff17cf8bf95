"""Narrow precisions are proven: run, finite, close; or refused with a reason."""

import pytest
import torch
from torch import Tensor, nn

from tests import networks
from upscale.models import precision
from upscale.models.contract import Precision
from upscale.models.inspection import inspect


def _all(device: torch.device) -> tuple[Precision, ...]:
    return ("bf16", "fp32")


@pytest.fixture(autouse=True)
def _small_and_with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge bf16 whether or not this machine has the instructions, on small pictures."""
    monkeypatch.setattr(precision, "hardware_precisions", _all)
    monkeypatch.setattr(precision, "_WIDE", (24, 128))


def test_a_plain_network_is_safe_in_bf16_with_a_figure() -> None:
    network = networks.compact(convs=2, features=8)
    contract = inspect(network, name="net", sanity=False)
    proofs = {p.precision: p for p in precision.prove(network, contract, torch.device("cpu"))}
    assert proofs["bf16"].safe
    assert proofs["bf16"].psnr is not None
    assert proofs["bf16"].psnr >= precision.MINIMUM_PSNR
    assert proofs["fp32"].gmacs


def test_window_attention_is_reached_by_autocast() -> None:
    network = networks.swinir()
    contract = inspect(network, name="net", sanity=False)
    proofs = {p.precision: p for p in precision.prove(network, contract, torch.device("cpu"))}
    # Its masks are fp32: weights cast to bf16 do not run away from the training size.
    assert proofs["bf16"].method == "autocast" or not proofs["bf16"].safe


def test_a_network_that_loses_too_much_is_refused_with_its_figure() -> None:
    class Coarse(nn.Module):
        """Coordinates in the working type: broken in bf16, as learned sampling heads are."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            at = torch.arange(x.shape[-1], dtype=y.dtype) * 37.0
            return x * 0.5 + 0.5 * torch.sin(at).abs() + 0 * y

    network = networks.custom(Coarse(), scale=1)
    contract = inspect(network, name="net", sanity=False)
    proofs = {p.precision: p for p in precision.prove(network, contract, torch.device("cpu"))}
    assert not proofs["bf16"].safe
    assert "dB" in proofs["bf16"].reason


def test_not_a_number_is_a_reason() -> None:
    class Narrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return x + (y * torch.nan if y.dtype == torch.bfloat16 else 0 * y)

    network = networks.custom(Narrow(), scale=1)
    contract = inspect(network, name="net", sanity=False)
    proofs = {p.precision: p for p in precision.prove(network, contract, torch.device("cpu"))}
    assert not proofs["bf16"].safe
    assert "not-a-number" in proofs["bf16"].reason
