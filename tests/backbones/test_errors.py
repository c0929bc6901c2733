"""Check that a misuse is one ValueError: the value, where, what is allowed."""

import pytest
import torch
from zoo import ZOO

TWO = 'mmpretrain-ResNet18'
THREE = 'mmaction-ResNet3d18'
DET = 'mmdet-ResNet18'
CGNL2D = dict(type='CGNL2d', groups=2)
CGNL3D = dict(type='CGNL3d', groups=2)
LAST = ((), (), (-1,), ())
BN2D = dict(CGNL2D, norm_cfg=dict(type='BN'))


def after(places=LAST, cfg=CGNL2D):
    return [dict(cfg=cfg, after_blocks=places)]


def case(plugins, *parts, network=TWO, **settings):
    """Say what is asked for, and what the message has to hold."""
    return network, settings, plugins, parts


MISUSES = {
    'too few stages': case(after(((), (), (-2,))), 'plugins[0]',
        'one tuple of units for each of the 4 stages'),
    'more than the stages built': case(after(),
        '3 stages (layer1, layer2, layer3)', '((), (), (-1,), ())',
        num_stages=3, out_indices=(2,), strides=(1, 2, 2),
        dilations=(1, 1, 1)),
    'one tuple for all stages': case(after((-1, -1, -1, -1)),
        'after_blocks[0] (layer1)', '(-2,) or ()', 'got -1'),
    'booleans, as in mmdet': case(after(((), (), (True,), ())), '(layer3)',
        'integers', 'got True'),
    'no unit in any stage': case(after(((), (), (), ())), 'plugins[0]',
        '((), (), (), ())', 'no block would be built'),
    "no stage in mmdet's own form": case(
        [dict(cfg=CGNL2D, stages=(False,) * 4, position='after_conv3')],
        'plugins[0]', 'stages=(False, ', 'no block would be built',
        network=DET),
    'unit behind the last': case(after(((), (), (2,), ())),
        '(layer3) names unit 2', '2 units', '-2 to 1'),
    'unit before the first': case(after(((), (), (), (-3,)), cfg=CGNL3D),
        '(layer4) names unit -3', '2 units', '-2 to 1', network=THREE),
    'same unit twice': case(after(((), (1, -1), (), ())), '(layer2)', 'twice',
        '(1, -1)'),
    'same name twice': case([dict(cfg=CGNL2D, after_blocks=LAST)] * 2,
        'plugins[1], after unit 1 of layer3', "'cgnl_1'", 'postfix'),
    'unknown block': case(after(cfg=dict(type='CGNL')), "no block 'CGNL'",
        'CGNL2d', 'NonLocal2d', 'ContextBlock'),
    'block without type': case(after(cfg=dict(groups=8)),
        'after unit 1 of layer3: no block None', 'CGNL2d'),
    'typo in an argument of the block': case(
        after(cfg=dict(type='CGNL2d', group=8)), 'after unit 1 of layer3',
        "'group'", 'groups, reduction'),
    'missing argument of the block': case(after(cfg=dict(type='ContextBlock')),
        'after unit 1 of layer3', "'ratio'", 'takes in_channels, ratio'),
    'groups do not divide': case(after(cfg=dict(type='CGNL2d', groups=3)),
        'after unit 1 of layer3', 'CGNL2d', 'groups=3', '16'),
    'refused by an assertion': case(
        after(cfg=dict(type='ContextBlock', ratio=1.0, fusion_types=())),
        'after unit 1 of layer3', 'ContextBlock', 'at least one fusion'),
    'wrong in_channels': case(after(cfg=dict(CGNL2D, in_channels=64)),
        'after unit 1 of layer3', 'in_channels=64', '32', 'leave'),
    '3D block in a 2D network': case(after(cfg=CGNL3D), 'unit 1 of layer3',
        'CGNL3d works on 3', 'the stage on 2', '2d'),
    '2D block in a 3D network': case(after(), 'unit 1 of layer3',
        'CGNL2d works on 2', 'the stage on 3', '3d', network=THREE),
    'frozen stage': case(after(), 'layer3 is frozen', 'frozen_stages=3',
        'allow_frozen=True', frozen_stages=3),
    'frozen by partial_bn': case(after(((), (-1,)), cfg=BN2D),
        'unit 1 of layer2', 'partial_bn=True', 'allow_frozen=True',
        network='mmaction-ResNet18', partial_bn=True),
    'frozen by bn_frozen': case(
        after(cfg=dict(CGNL3D, norm_cfg=dict(type='BN'))), 'unit 5 of layer3',
        'bn_frozen=True', 'allow_frozen=True',
        network='mmaction-ResNet3dCSN50', bn_frozen=True, norm_eval=True),
    'stage behind the last output': case(after(), 'layer3',
        'out_indices=(0, 1)', 'never be trained', out_indices=(0, 1)),
    'unknown key': case([dict(cfg=CGNL2D, after_block=LAST)],
        "unknown keys ['after_block']", 'after_blocks'),
    'position outside mmdet': case([dict(cfg=CGNL2D, position='after_conv3')],
        "unknown keys ['position']", 'after_blocks', "mmdet's alone"),
    'both forms in one': case(
        [dict(cfg=CGNL2D, after_blocks=LAST, position='after_conv3')],
        "unknown keys ['after_blocks']", 'stages', 'position', network=DET),
    'no after_blocks': case([dict(cfg=CGNL2D)], "no 'after_blocks'",
        '((), (), (-2,), ())'),
    'no cfg': case([dict(type='CGNL2d', after_blocks=LAST)],
        "unknown keys ['type']", "'cfg'"),
    'no cfg at all': case([dict(after_blocks=LAST)], "needs a 'cfg'",
        "cfg=dict(type='CGNL2d')", 'None'),
    'cfg is a name': case(after(cfg='CGNL2d'), "cfg=dict(type='CGNL2d')",
        "got 'CGNL2d'"),
    'plugins is a dict': case(dict(cfg=CGNL2D, after_blocks=LAST),
        'plugins must be a list of dicts', 'got dict'),
    'plugins is a list of names': case(['CGNL2d'], 'plugins[0] must be a dict',
        "'CGNL2d'"),
    'postfix with a dot': case(after(cfg=dict(CGNL2D, postfix='a.b')),
        'unit 1 of layer3', 'postfix', "'a.b'"),
}  # fmt: skip


@pytest.mark.parametrize('name', MISUSES)
def test_misuse(name):
    network, settings, plugins, parts = MISUSES[name]
    with pytest.raises(ValueError) as error:
        ZOO[network].build(plugins, **settings)
    message = str(error.value)
    for part in parts:
        assert part in message
    assert '\n' not in message
    # A config with two backbones is understood.
    assert message.startswith(f'Plugin{ZOO[network].name}')


def test_error_leaves_no_trace_in_the_random_state():
    torch.manual_seed(0)
    ZOO[TWO].build()
    next_draw = torch.rand(4)
    torch.manual_seed(0)
    with pytest.raises(ValueError):
        ZOO[TWO].build(after(cfg=dict(type='CGNL2d', groups=3)))
    assert torch.equal(torch.rand(4), next_draw)
