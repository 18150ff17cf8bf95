"""Rewrites at load change nothing but the cost."""

import threading

import torch
from spandrel import ModelLoader
from spandrel.architectures.SPAN import SPAN

from tests import networks
from upscale.models.runner import Runner
from upscale.models.testcard import draw_card


def test_span_is_merged_once_and_gives_what_spandrel_gives() -> None:
    torch.manual_seed(0)
    model = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2, norm=False)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    original = ModelLoader(device="cpu").load_from_state_dict(state)
    fused = networks.loaded(original.model)
    assert not [m for m in fused.descriptor.model.modules() if type(m).__name__ == "Conv3XC"]
    x = draw_card(40, 33, 3)
    assert torch.allclose(Runner(fused)(x), original(x.clone()), atol=1e-6)
    before = sum(p.numel() for p in original.model.parameters())
    after = sum(p.numel() for p in fused.descriptor.model.parameters())
    assert after < before / 3


def test_span_is_safe_to_call_from_several_threads() -> None:
    runner = Runner(networks.span())
    x = draw_card(40, 40, 3)
    expected = runner(x)
    wrong: list[int] = []

    def call() -> None:
        for _ in range(5):
            if not torch.equal(runner(x), expected):
                wrong.append(1)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_compact_in_bf16_keeps_flat_tones() -> None:
    network = networks.compact()
    with torch.no_grad():
        for parameter in network.descriptor.model.parameters():
            parameter.zero_()
    runner = Runner(network, precision="bf16")
    # 201/255 lies between two bf16 values; the base is added in fp32 and keeps it.
    x = torch.full((1, 3, 8, 8), 201 / 255)
    assert torch.equal(runner(x), torch.full((1, 3, 16, 16), 201 / 255))
