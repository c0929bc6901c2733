"""torch.compile sees one graph, blocks included, in every host."""

from importlib import import_module

import pytest
import torch
from mmengine.registry import DefaultScope

BACKBONES = {
    'mmpretrain': dict(type='PluginResNet', depth=50, out_indices=(3,)),
    'mmdet': dict(type='PluginResNet', depth=50),
    'mmaction': dict(type='PluginResNet3d', depth=50, pretrained=None),
}


@pytest.mark.parametrize('host', BACKBONES)
def test_one_graph(host):
    torch._dynamo.reset()
    rank = 3 if host == 'mmaction' else 2
    size = (1, 3, 8, 32, 32) if rank == 3 else (1, 3, 64, 64)
    cfg = dict(
        BACKBONES[host],
        plugins=[
            dict(
                cfg=dict(type=f'CGNL{rank}d', zero_init=False),
                after_blocks=((), (1, 3), (1, 3, 5), ()),
            )
        ],
    )
    with DefaultScope.overwrite_default_scope(host):
        network = import_module(f'{host}.registry').MODELS.build(cfg)
    network.eval()
    x = torch.randn(size)
    compiled = torch.compile(network, fullgraph=True, backend='aot_eager')

    def last(outputs):
        return outputs[-1] if isinstance(outputs, tuple) else outputs

    with torch.no_grad():
        ours, expected = last(compiled(x)), last(network(x))
    assert torch.allclose(ours, expected, 1e-3, 1e-3)
