"""Layer-wise decay of the learning rate counts a block as its unit."""

import pytest
from mmpretrain.engine import LearningRateDecayOptimWrapperConstructor

PLACES = {50: ((0,), (1, 2), (0, 2, 3, -1), (-1,)), 101: ((), (), (2, -2), ())}


@pytest.mark.parametrize(
    'depth, postfix',
    [
        (50, ''),
        (101, '2'),
        pytest.param(50, '2', marks=pytest.mark.nightly),
        pytest.param(101, '', marks=pytest.mark.nightly),
    ],
)
def test_layer_decay(zoo, depth, postfix):
    network = zoo['mmpretrain-ResNet50']
    cfg = dict(type='CGNL2d', groups=2, postfix=postfix)
    model = network.build_any(
        dict(
            type='ImageClassifier',
            backbone=network.config(
                [dict(cfg=cfg, after_blocks=PLACES[depth])], depth=depth
            ),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=256),
        )
    )
    optimizer = dict(type='SGD', lr=1.0, weight_decay=0.1)
    constructor = LearningRateDecayOptimWrapperConstructor(
        dict(type='OptimWrapper', optimizer=optimizer),
        paramwise_cfg=dict(layer_decay_rate=0.5),
    )
    groups = constructor(model).optimizer.param_groups
    rates = {group['param_name']: group['lr'] for group in groups}
    assert rates.keys() == dict(model.named_parameters()).keys()

    compared = set()
    for path, unit in model.backbone.plugin_units.items():
        stage = path.split('.')[0]
        expected = rates[f'backbone.{stage}.{unit}.conv1.weight']
        block = [k for k in rates if k.startswith(f'backbone.{path}.')]
        assert len(block) == 6
        assert {rates[k] for k in block} == {expected}
        compared.add(expected)
    # blocks on both sides of a step of the decay
    assert len(compared) > 1


def test_depths_of_stock_parameters_stay(zoo):
    network = zoo['mmpretrain-ResNet50']
    net, stock = network.build(network.plugins), network.build(stock=True)
    for key, _ in stock.named_parameters():
        name = f'backbone.{key}'
        depth = net.get_layer_depth(name, 'backbone.')
        assert depth == stock.get_layer_depth(name, 'backbone.')
    assert net.get_layer_depth('head.fc.weight', 'backbone.') == (7, 8)
