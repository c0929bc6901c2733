"""Layer-wise decay of the learning rate counts a block as its unit."""

import pytest
from mmpretrain.engine import LearningRateDecayOptimWrapperConstructor
from zoo import ZOO, build

NETWORK = ZOO['mmpretrain-ResNet50']
PLACES = {50: ((0,), (1, 2), (0, 2, 3, -1), (-1,)), 101: ((), (), (2, -2))}


def build_classifier(plugins, depth):
    head = dict(type='LinearClsHead', num_classes=3, in_channels=256)
    backbone = NETWORK.config(plugins, depth=depth)
    cfg = dict(type='ImageClassifier', backbone=backbone, head=head)
    return build('mmpretrain', cfg)


def rates_of(model):
    optimizer = dict(type='SGD', lr=1.0, weight_decay=0.1)
    constructor = LearningRateDecayOptimWrapperConstructor(
        dict(type='OptimWrapper', optimizer=optimizer),
        paramwise_cfg=dict(layer_decay_rate=0.5),
    )
    groups = constructor(model).optimizer.param_groups
    return {group['param_name']: group['lr'] for group in groups}


@pytest.mark.parametrize('depth, postfix', [(50, ''), (101, '2')])
def test_layer_decay(depth, postfix):
    plugins = [NETWORK.plugin(*PLACES[depth], postfix=postfix)]
    model = build_classifier(plugins, depth)
    rates = rates_of(model)
    assert rates.keys() == dict(model.named_parameters()).keys()
    # The rates of all other parameters stay.
    assert rates_of(build_classifier(None, depth)).items() <= rates.items()

    compared = set()
    for path, unit in model.backbone.plugin_units.items():
        stage = path.split('.')[0]
        expected = rates[f'backbone.{stage}.{unit}.conv1.weight']
        block = [k for k in rates if k.startswith(f'backbone.{path}.')]
        assert len(block) == 6
        assert {rates[k] for k in block} == {expected}
        compared.add(expected)
    # Blocks stand on both sides of a step of the decay.
    assert len(compared) > 1
