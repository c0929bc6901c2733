"""Whole networks of the author: same outputs here, nothing lost."""

import pytest
import reference
import torch
from torch import nn
from torchvision.models import resnet50

from cgnl_mm.convert import ConversionError, convert_checkpoint
from cgnl_mm.convert.checkpoint import read_tensors, recognise
from cgnl_mm.convert.network import Network
from cgnl_mm.insertion.initialization import named_blocks

CONFIGS = {
    ('cgnl', 8): 'r50_cgnl_cub',
    ('cgnl', 4): 'r50_cgnl_g4_cub',
    ('cgnlx', 8): 'r50_cgnlx_cub',
    ('nl', 1): 'r50_nl_cub',
    (None, None): 'r50_cub',
}


def saved(network):
    """A checkpoint of the author's code, wrapped in DataParallel twice."""
    state = nn.DataParallel(nn.DataParallel(network)).state_dict()
    return dict(epoch=31, state_dict=state, best_prec1=80.0)


@pytest.fixture
def trained():
    def make(kind, **settings):
        torch.manual_seed(1)
        network = reference.Classifier(block=kind, **settings)
        return reference.train_a_little(network)

    return make


@pytest.mark.parametrize('kind, groups', CONFIGS)
def test_same_logits(kind, groups, trained, build, monkeypatch):
    monkeypatch.setattr(reference, 'GROUPS', groups)
    theirs = trained(kind)
    given = saved(theirs)
    assert recognise(read_tensors(given)).groups == groups
    ours = build(CONFIGS[kind, groups])
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = theirs(x)
        state = convert_checkpoint(given)
        # All tensors arrive, and the checkpoint still has them.
        tensors = {id(value) for value in given['state_dict'].values()}
        assert len(tensors) == len(theirs.state_dict())
        assert tensors <= {id(value) for value in state.values()}
        ours.load_state_dict(state, strict=True)
        logits = ours.head(ours.extract_feat(x))
        assert expected.std() > 0.1
        assert (logits - expected).abs().max() < 1e-4
        if kind is not None:  # the block has its share in them
            ((path, _),) = named_blocks(ours.backbone)
            stage, name = path.split('.')
            delattr(ours.backbone.get_submodule(stage), name)
            logits = ours.head(ours.extract_feat(x))
            assert (logits - expected).abs().max() > 1e-2


OURS = {'cgnl': ('CGNL2d', 8), 'nl': ('NonLocal2d', 1), None: (None, None)}


def nightly(*values):
    return pytest.param(*values, marks=pytest.mark.nightly)


@pytest.mark.parametrize('depth, kind, classes, config', [
    (50, 'cgnl', 200, 'r50_cgnl_cub'),
    (101, 'nl', 200, 'r101_nl_cub'),
    (152, 'cgnl', 1000, 'r152_cgnl_imagenet'),
    (152, None, 1000, 'r152_imagenet'),
    nightly(50, 'nl', 200, 'r50_nl_cub'),
    nightly(101, 'cgnl', 200, 'r101_cgnl_cub'),
    nightly(101, None, 200, 'r101_cub'),
])  # fmt: skip
def test_published_networks(depth, kind, classes, config, zeros, build):
    """The names and shapes of our model, all of them, at every depth."""
    theirs = zeros(reference.Classifier, depth, kind, classes, 8)
    shapes = {k: v.shape for k, v in convert_checkpoint(theirs).items()}
    ours = build(config).state_dict()
    assert shapes == {k: v.shape for k, v in ours.items()}

    theirs = zeros(reference.Classifier, depth, kind, classes, 64)
    assert recognise(theirs) == Network(depth, *OURS[kind], classes)


def test_torchvision_with_and_without_a_classifier(zeros):
    theirs = zeros(resnet50)
    ours = convert_checkpoint(theirs)
    assert len(ours) == len(theirs)
    assert 'head.fc.weight' in ours and 'backbone.layer3.5.bn3.bias' in ours
    del theirs['fc.weight'], theirs['fc.bias']
    assert recognise(theirs).num_classes is None
    ours = convert_checkpoint(theirs, backbone_only=True)
    assert {f'backbone.{key}' for key in theirs} == ours.keys()
    refuses(theirs, r'missing, .*head\.fc\.bias')


def test_backbone_for_a_detector(trained):
    state = trained('cgnl', classes=3).state_dict()
    refuses(state, r'fc\.weight, fc\.bias.*--backbone-only', 'mmdet')
    ours = convert_checkpoint(state, 'mmdet', backbone_only=True)
    assert len(ours) == len(state) - 2
    assert all(key.startswith('backbone.') for key in ours)
    assert ours.keys() == convert_checkpoint(state, backbone_only=True).keys()


def test_before_num_batches_tracked(trained, build):
    """What PyTorch 0.4.0 saved."""
    state = trained('nl').state_dict()
    state = {k: v for k, v in state.items() if 'num_batches' not in k}
    ours = build('r50_nl_cub')
    ours.load_state_dict(convert_checkpoint(state), strict=True)


def put(key, *shape):
    return lambda state: state.update({key: torch.ones(shape)})


def rename(old, new=None):
    """Give another prefix to keys; without one, leave them out."""

    def change(state):
        for key in [k for k in state if k.startswith(old)]:
            value = state.pop(key)
            if new is not None:
                state[new + key[len(old) :]] = value

    return change


# What is done to a state dict, and what the message names: in the names of
# the target, but for what is found before.
FAULTS = {
    'missing': (rename('layer3.6.bn1.w'), r'missing, .*3\.5\.bn1\.weight'),
    'missing unit of layer3': (
        rename('layer3.2.'), r'layer3 has 5 residual units; .* 6 \(R-50\)'),
    'missing stem': (rename('conv1.'), r'missing, .*conv1\.weight'),
    'missing classifier': (rename('fc.'), r'missing, .*head\.fc\.weight'),
    'missing of its last': (rename('layer3.5.z.'), r'missing, .*4\.conv_out'),
    'shape': (
        put('layer1.0.conv2.weight', 8, 8, 1, 1),
        r'layer1\.0\.conv2\.weight: .*\[8, 8, 1, 1\].*\[8, 8, 3, 3\]'),
    'shape of the stem': (put('conv1.weight'), r'conv1\.weight: .*\[\]'),
    'shape of the block': (
        put('layer3.5.z.weight', 128, 7, 1, 1),
        r'_4\.conv_out\.weight: .*\[128, 7, 1, 1\].*\[128, 8, 1, 1\]'),
    'two blocks': (
        put('layer2.1.t.weight', 1), r'unknown, .*layer2\.1\.t\.weight'),
    'two units with one number': (
        put('layer3.5.bn3.bias', 1), r'3\.5\.bn3\.bias differs from'),
    'DataParallel in part': (
        rename('fc.', 'module.fc.'),
        r'missing, .*head\.fc\.bias.*unknown, .*module\.fc\.weight'),
    'NaN': (
        lambda s: s['layer2.0.bn1.bias'].fill_(float('nan')),
        r'not finite in 1 keys: layer2\.0\.bn1\.bias$'),
    'infinity': (
        lambda s: s['fc.bias'][1].fill_(float('-inf')), r'not finite.*fc\.b'),
    'number': (lambda s: s.update(lr=0.1), r'not tensors are 1 keys: lr'),
    'everything': (lambda s: s.clear(), 'not a checkpoint'),
    'another network': (rename('layer', 'features'), 'keys: conv1'),
    'a forged line': (put('layer1.0\n\x1b[2J', 1), r'unknown, .*1\.0.*x1b'),
}  # fmt: skip


@pytest.mark.parametrize('fault', FAULTS)
def test_faults(fault, trained):
    change, message = FAULTS[fault]
    state = {k: v.clone() for k, v in trained('cgnl').state_dict().items()}
    change(state)
    refuses(state, message)


def refuses(state, message, target='mmpretrain'):
    """Expect one line that is not too long."""
    with pytest.raises(ConversionError, match=message) as error:
        convert_checkpoint(state, target)
    assert str(error.value).isprintable() and len(str(error.value)) < 600


def test_long_lists_are_capped(trained):
    state = trained(None).state_dict()
    rename('layer4.', 'layer5.')(state)
    refuses(state, r'missing, .*layer4\.0')
    state = {f'{i}': torch.ones(1) for i in range(330)}
    refuses(state, r'330 keys: 0, 1, 2, 3, \.\.\.$')


@pytest.mark.parametrize('checkpoint', [None, [1], {}, dict(state_dict=3)])
def test_not_a_checkpoint(checkpoint):
    refuses(checkpoint, 'not a ')


def test_directions(trained):
    theirs = trained('cgnl').state_dict()
    refuses(theirs, 'possible: mmpretrain, mmdet, mmaction', 'author')
    refuses(theirs, 'mmaction2 with non_local: no name', 'mmaction')
    refuses(convert_checkpoint(theirs), r'conversion\): .*backbone\.conv1')
