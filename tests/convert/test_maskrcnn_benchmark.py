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


@pytest.fixture
def state(reference, zeros):
    return zeros(reference.DetectorC4, 'cgnl')


def test_heads_are_named(state):
    with pytest.raises(ConversionError) as error:
        convert_checkpoint(state, 'mmdet')
    heads = [k for k in state if k.startswith(('rpn.', 'roi_heads.'))]
    heads = [k for k in heads if '.layer4.' not in k]
    text = f'{len(heads)} keys: {", ".join(heads[:4])}, ...'
    assert text in str(error.value) and '--backbone-only' in str(error.value)


@pytest.mark.parametrize('key, value, message', [
    ('roi_heads.mask.feature_extractor.head.layer4.0.bn1.bias', 3.0,
     r'mask.*layer4\.0\.bn1\.bias differs'),
    ('backbone.fpn.inner.weight', 1.0, r'unknown, .*backbone\.fpn\.inner'),
    ('backbone.body.layer3.5.t.weight', None, r'missing, .*cgnl_4\.theta'),
])  # fmt: skip
def test_faults(key, value, message, state):
    old = state.pop(key, torch.ones(1))
    if value is not None:
        state[key] = torch.full_like(old, value)
    with pytest.raises(ConversionError, match=message):
        convert_checkpoint(state, 'mmdet', backbone_only=True)


def test_only_for_a_detector(state):
    with pytest.raises(ConversionError, match='possible: mmdet'):
        convert_checkpoint(state, 'mmpretrain')
