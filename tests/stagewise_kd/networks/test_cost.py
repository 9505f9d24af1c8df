"""Multiply-adds of a pass."""

from functools import partial

import torch
from torch import nn

from stagewise_kd.networks.cost import macs


class Token(nn.Module):
    """Hands a view of a parameter to a module, as CaiT does."""

    def __init__(self):
        super().__init__()
        self.token, self.inner = nn.Parameter(torch.zeros(1, 4)), nn.Linear(4, 3)

    def forward(self, x):
        return self.inner(x) + self.inner(self.token.expand(len(x), -1))


def test_a_module_that_takes_a_parameter_is_counted():
    net, x = Token(), torch.zeros(2, 4)
    assert macs(partial(net, x)) == 2 * 2 * 4 * 3
    with torch.no_grad():
        assert macs(partial(net, x)) == 2 * 2 * 4 * 3
    with torch.inference_mode():
        assert macs(partial(net, x)) == 2 * 2 * 4 * 3
        assert macs(partial(net.inner, net.token)) == 4 * 3


def test_fused_attention_costs_on_a_gpu_what_it_costs_elsewhere():
    q = torch.empty(1, 2, 8, 16, device="meta", dtype=torch.float16)
    assert macs(partial(torch.ops.aten._scaled_dot_product_flash_attention, q, q, q)) == 0
