"""Every misuse is one ValueError: which value, where, what is allowed."""

import pytest
import torch

TWO = 'mmpretrain-ResNet18'
THREE = 'mmaction-ResNet3d18'
DET = 'mmdet-ResNet18'
CGNL2D = dict(type='CGNL2d', groups=2)
CGNL3D = dict(type='CGNL3d', groups=2)
LAST = ((), (), (-1,), ())
BN2D = dict(CGNL2D, norm_cfg=dict(type='BN'))

# what is wrong: network, its settings, plugins, what the message says
MISUSES = {
    'too few stages': (
        TWO,
        {},
        [dict(cfg=CGNL2D, after_blocks=((), (), (-2,)))],
        ['plugins[0]', 'one tuple of units for each of the 4 stages'],
    ),
    'more than the stages built': (
        TWO,
        dict(
            num_stages=3,
            out_indices=(2,),
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
        ),
        [dict(cfg=CGNL2D, after_blocks=LAST)],
        ['3 stages (layer1, layer2, layer3)', '((), (), (-1,), ())'],
    ),
    'one tuple for all stages': (
        TWO,
        {},
        [dict(cfg=CGNL2D, after_blocks=(-1, -1, -1, -1))],
        ['after_blocks[0] (layer1)', '(-2,) or ()', 'got -1'],
    ),
    'a number': (
        TWO,
        {},
        [dict(cfg=CGNL2D, after_blocks=2)],
        ['4 stages', 'got 2'],
    ),
    'booleans, as in mmdet': (
        TWO,
        {},
        [dict(cfg=CGNL2D, after_blocks=((), (), (True,), ()))],
        ['(layer3)', 'integers', 'got True'],
    ),
    'a float': (
        TWO,
        {},
        [dict(cfg=CGNL2D, after_blocks=((), (), (1.0,), ()))],
        ['(layer3)', 'integers', 'got 1.0'],
    ),
    'no unit in any stage': (
        TWO,
        {},
        [dict(cfg=CGNL2D, after_blocks=((), (), (), ()))],
        ['plugins[0]', '((), (), (), ())', 'no block would be built'],
    ),
    "no stage in mmdet's own form": (
        DET,
        {},
        [dict(cfg=CGNL2D, stages=(False,) * 4, position='after_conv3')],
        ['plugins[0]', 'stages=(False, ', 'no block would be built'],
    ),
    'text': (
        TWO,
        {},
        [dict(cfg=CGNL2D, after_blocks=((), (), '1', ()))],
        ['after_blocks[2] (layer3)', "got '1'"],
    ),
    'unit behind the last': (
        TWO,
        {},
        [dict(cfg=CGNL2D, after_blocks=((), (), (2,), ()))],
        ['(layer3) names unit 2', '2 units', '-2 to 1'],
    ),
    'unit before the first': (
        THREE,
        {},
        [dict(cfg=CGNL3D, after_blocks=((), (), (), (-3,)))],
        ['(layer4) names unit -3', '2 units', '-2 to 1'],
    ),
    'same unit twice': (
        TWO,
        {},
        [dict(cfg=CGNL2D, after_blocks=((), (1, -1), (), ()))],
        ['(layer2)', 'twice', '(1, -1)'],
    ),
    'same name twice': (
        TWO,
        {},
        [dict(cfg=CGNL2D, after_blocks=LAST)] * 2,
        ['plugins[1], after unit 1 of layer3', "'cgnl_1'", 'postfix'],
    ),
    'unknown block': (
        TWO,
        {},
        [dict(cfg=dict(type='CGNL'), after_blocks=LAST)],
        ["no block 'CGNL'", 'CGNL2d', 'NonLocal2d', 'ContextBlock'],
    ),
    'block without type': (
        TWO,
        {},
        [dict(cfg=dict(groups=8), after_blocks=LAST)],
        ['after unit 1 of layer3: no block None', 'CGNL2d'],
    ),
    'typo in an argument of the block': (
        TWO,
        {},
        [dict(cfg=dict(type='CGNL2d', group=8), after_blocks=LAST)],
        ['after unit 1 of layer3', "'group'", 'groups, reduction'],
    ),
    'missing argument of the block': (
        TWO,
        {},
        [dict(cfg=dict(type='ContextBlock'), after_blocks=LAST)],
        ['after unit 1 of layer3', "'ratio'", 'takes in_channels, ratio'],
    ),
    'groups do not divide': (
        TWO,
        {},
        [dict(cfg=dict(type='CGNL2d', groups=3), after_blocks=LAST)],
        ['after unit 1 of layer3', 'CGNL2d', 'groups=3', '16'],
    ),
    'refused by an assertion': (
        TWO,
        {},
        [
            dict(
                cfg=dict(type='ContextBlock', ratio=1.0, fusion_types=()),
                after_blocks=LAST,
            )
        ],
        ['after unit 1 of layer3', 'ContextBlock', 'at least one fusion'],
    ),
    'wrong in_channels': (
        TWO,
        {},
        [dict(cfg=dict(CGNL2D, in_channels=64), after_blocks=LAST)],
        ['after unit 1 of layer3', 'in_channels=64', '32', 'leave'],
    ),
    '3D block in a 2D network': (
        TWO,
        {},
        [dict(cfg=CGNL3D, after_blocks=LAST)],
        ['unit 1 of layer3', 'CGNL3d works on 3', 'the stage on 2', '2d'],
    ),
    '2D block in a 3D network': (
        THREE,
        {},
        [dict(cfg=CGNL2D, after_blocks=LAST)],
        ['unit 1 of layer3', 'CGNL2d works on 2', 'the stage on 3', '3d'],
    ),
    'frozen stage': (
        TWO,
        dict(frozen_stages=3),
        [dict(cfg=CGNL2D, after_blocks=LAST)],
        ['layer3 is frozen', 'frozen_stages=3', 'allow_frozen=True'],
    ),
    'frozen by partial_bn': (
        'mmaction-ResNet18',
        dict(partial_bn=True),
        [dict(cfg=BN2D, after_blocks=((), (-1,)))],
        ['unit 1 of layer2', 'partial_bn=True', 'allow_frozen=True'],
    ),
    'frozen by bn_frozen': (
        'mmaction-ResNet3dCSN50',
        dict(bn_frozen=True, norm_eval=True),
        [dict(cfg=dict(CGNL3D, norm_cfg=dict(type='BN')), after_blocks=LAST)],
        ['unit 5 of layer3', 'bn_frozen=True', 'allow_frozen=True'],
    ),
    'stage behind the last output': (
        TWO,
        dict(out_indices=(0, 1)),
        [dict(cfg=CGNL2D, after_blocks=LAST)],
        ['layer3', 'out_indices=(0, 1)', 'never be trained'],
    ),
    'unknown key': (
        TWO,
        {},
        [dict(cfg=CGNL2D, after_block=LAST)],
        ["unknown keys ['after_block']", 'after_blocks'],
    ),
    'position outside mmdet': (
        TWO,
        {},
        [dict(cfg=CGNL2D, position='after_conv3')],
        ["unknown keys ['position']", 'after_blocks', "mmdet's alone"],
    ),
    'both forms in one': (
        DET,
        {},
        [dict(cfg=CGNL2D, after_blocks=LAST, position='after_conv3')],
        ["unknown keys ['after_blocks']", 'stages', 'position'],
    ),
    'neither form in mmdet': (
        DET,
        {},
        [dict(cfg=CGNL2D)],
        ["no 'after_blocks'", '((), (), (-2,), ())'],
    ),
    'no after_blocks': (
        TWO,
        {},
        [dict(cfg=CGNL2D)],
        ["no 'after_blocks'", '((), (), (-2,), ())'],
    ),
    'no cfg': (
        TWO,
        {},
        [dict(type='CGNL2d', after_blocks=LAST)],
        ["unknown keys ['type']", "'cfg'"],
    ),
    'no cfg at all': (
        TWO,
        {},
        [dict(after_blocks=LAST)],
        ["needs a 'cfg'", "cfg=dict(type='CGNL2d')", 'None'],
    ),
    'cfg is a name': (
        TWO,
        {},
        [dict(cfg='CGNL2d', after_blocks=LAST)],
        ["cfg=dict(type='CGNL2d')", "got 'CGNL2d'"],
    ),
    'plugins is a dict': (
        TWO,
        {},
        dict(cfg=CGNL2D, after_blocks=LAST),
        ['plugins must be a list of dicts', 'got dict'],
    ),
    'plugins is a list of names': (
        TWO,
        {},
        ['CGNL2d'],
        ['plugins[0] must be a dict', "'CGNL2d'"],
    ),
    'postfix with a dot': (
        TWO,
        {},
        [dict(cfg=dict(CGNL2D, postfix='a.b'), after_blocks=LAST)],
        ['unit 1 of layer3', 'postfix', "'a.b'"],
    ),
}


@pytest.mark.parametrize('name', MISUSES)
def test_misuse(zoo, name):
    network, settings, plugins, parts = MISUSES[name]
    with pytest.raises(ValueError) as error:
        zoo[network].build(plugins, **settings)
    message = str(error.value)
    for part in parts:
        assert part in message
    assert '\n' not in message
    # which backbone, so that a config with two is understood
    assert message.startswith(f'Plugin{zoo[network].name}')


def test_error_leaves_no_trace_in_the_random_state(zoo):
    state = torch.get_rng_state()
    zoo[TWO].build(stock=True)
    after_stock = torch.get_rng_state()
    torch.set_rng_state(state)
    bad = dict(type='CGNL2d', groups=3)
    with pytest.raises(ValueError):
        zoo[TWO].build([dict(cfg=bad, after_blocks=LAST)])
    assert torch.equal(torch.get_rng_state(), after_stock)
