"""R-50-C4 of maskrcnn-benchmark: backbone and last stage of our Mask R-CNN."""

import pytest
import torch

from cgnl_mm.convert import ConversionError, convert_checkpoint

HEADS = ('rpn_head.', 'roi_head.bbox_head.', 'roi_head.mask_head.')


@pytest.mark.parametrize('kind', ['cgnl', 'nl', None])
def test_same_features(kind, reference, build):
    theirs = reference.train_a_little(reference.DetectorC4(kind))
    for name, value in theirs.state_dict().items():
        if name.endswith('running_var'):  # so that an eps matters
            value.mul_(1e-3)
            norm = theirs.get_submodule(name.removesuffix('.running_var'))
            norm.weight.data.mul_(1e-3**0.5)
    saved = {f'module.{k}': v for k, v in theirs.state_dict().items()}
    state = convert_checkpoint(
        dict(model=saved, iteration=1), 'mmdet', backbone_only=True
    )
    suffix = f'_{kind}' if kind else ''
    ours = build(f'mask_rcnn_r50_c4{suffix}_coco')
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.startswith(HEADS) for key in missing)

    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, (features,) = theirs.features(x), ours.backbone(x)
        scale = expected.abs().max()
        assert expected.std() > 0.01 * scale
        assert (features - expected).abs().max() < 1e-5 * scale
        last = theirs.last_stage(expected)
        ours_last = ours.roi_head.shared_head(expected)
        assert (ours_last - last).abs().max() < 1e-5 * last.abs().max()


@pytest.fixture(scope='module')
def state(reference):
    return reference.DetectorC4('cgnl', width=8).state_dict()


def test_heads_are_named(state):
    with pytest.raises(ConversionError) as error:
        convert_checkpoint(state, 'mmdet')
    text = str(error.value)
    heads = [k for k in state if k.startswith(('rpn.', 'roi_heads.'))]
    heads = [k for k in heads if '.layer4.' not in k]
    assert f'{len(heads)} keys' in text and '--backbone-only' in text
    assert all(f'  {key}\n' in f'{text}\n' for key in heads)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            {'roi_heads.mask.feature_extractor.head.layer4.0.bn1.bias': 3},
            r'different from the box head.*mask.*layer4\.0\.bn1\.bias',
        ),
        ({'backbone.fpn.inner.weight': 1}, r'unknown.*backbone\.fpn\.inner'),
        ({'backbone.body.layer3.5.t.weight': None}, r'missing.*3\.5\.t\.weig'),
    ],
)
def test_faults(change, message, state):
    state = dict(state)
    for key, value in change.items():
        if value is None:
            del state[key]
        else:
            state[key] = torch.full_like(state.get(key, torch.ones(1)), value)
    with pytest.raises(ConversionError, match=f'(?s){message}'):
        convert_checkpoint(state, 'mmdet', backbone_only=True)


def test_only_for_a_detector(state):
    with pytest.raises(ConversionError, match='possible: mmdet'):
        convert_checkpoint(state, 'mmpretrain')
