"""The hook in real trainings, against a plain PyTorch loop."""

import json
import random
from collections import defaultdict

import numpy as np
import pytest
import torch
from mmcv.cnn import NonLocal2d
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel, ImgDataPreprocessor
from PIL import Image
from runs import Count, train_here
from torch import nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from cgnl_mm import CGNL2d
from cgnl_mm.ops.torch_versions import TORCH
from cgnl_mm.training import CGNLStatisticsHook

BATCH = 4
LR = 0.5
GRADIENTS = ('gradient_share_phi', 'gradient_share_g')


pytestmark = pytest.mark.skipif(
    TORCH < (2, 2),
    reason='torch 2.1, once it has compiled, runs no hooks of optimizers',
)


def noise():
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(4 * BATCH, 3, 5, 5, generator=generator)
    return [dict(inputs=x, label=index % 2) for index, x in enumerate(inputs)]


class Tiny(BaseModel):
    def __init__(self, block):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.block = block
        self.head = nn.Linear(8, 2)

    def forward(self, inputs, label, mode='tensor', data_samples=None):
        y = self.head(self.block(self.stem(inputs)).mean((2, 3)))
        if mode == 'predict':
            return y
        return dict(loss=F.cross_entropy(y, torch.as_tensor(label)))


def tiny(**options):
    """A network with a block of two groups that attends."""
    torch.manual_seed(3)
    model = Tiny(CGNL2d(8, **dict(dict(groups=2, init_std=0.3), **options)))
    model.init_weights()
    model._is_init = True
    if not isinstance(model.block.norm, nn.Identity):
        nn.init.constant_(model.block.norm.weight, 0.7)
    return model


def train(model, folder, hooks=(), interval=3, accumulate=1,
          backends=('Local',), **given):  # fmt: skip
    """Two epochs of four iterations, in order; the scalars by step."""
    runner = train_here(
        model,
        folder,
        None,
        hooks,
        train_dataloader=dict(
            dataset=noise(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            batch_size=BATCH,
            collate_fn=dict(type='default_collate'),
        ),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=LR, momentum=0.9),
            accumulative_counts=accumulate,
        ),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=interval), checkpoint=None
        ),
        visualizer=dict(
            type='Visualizer',
            vis_backends=[dict(type=f'{name}VisBackend') for name in backends],
        ),
        log_level='ERROR',
        **given,
    )
    logged = defaultdict(dict)
    (file,) = folder.glob('*/vis_data/scalars.json')
    for record in map(json.loads, file.read_text().splitlines()):
        for key, value in record.items():
            if key.startswith('cgnl/'):
                logged[record['step']][key.removeprefix('cgnl/')] = value
    return runner, logged


def by_hand(model, accumulate=1):
    """The same training in a plain loop: what each step should log."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    data, block = default_collate(noise()), model.block
    attention, gradients = {}, {}
    for step in range(1, 9):
        x, label = (
            data[key].split(BATCH)[(step - 1) % 4]
            for key in ('inputs', 'label')
        )
        with torch.no_grad():
            maps = model.stem(x)
            out = block(maps)
            factor = (block.phi(maps) * block.g(maps)).view(BATCH, 2, -1)
            factor = factor.sum(-1)
            attention[step] = {
                'block/attention_mean': factor.mean().item(),
                'block/attention_std': factor.var(correction=0).sqrt().item(),
                'block/attention_positive': (factor > 0).sum().item() / 8,
                'block/norm_weight': block.norm.weight.abs().mean().item(),
                'block/output_ratio': (
                    (out - maps).pow(2).sum().sqrt() / maps.pow(2).sum().sqrt()
                ).item(),
            }
        (model(x, label)['loss'] / accumulate).backward()
        if step % accumulate == 0:
            theta, phi, g = (
                (layer.weight.grad.norm() / layer.weight.norm()).item()
                for layer in (block.theta, block.phi, block.g)
            )
            shares = zip(GRADIENTS, (phi / theta, g / theta))
            gradients[step] = {f'block/{key}': share for key, share in shares}
            optimizer.step()
            optimizer.zero_grad()
    return attention, gradients


def test_scalars_are_those_of_the_plain_loop(tmp_path):
    """In the log and in TensorBoard."""
    events = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator'
    )
    hook = dict(type='CGNLStatisticsHook', interval=2)
    _, logged = train(
        tiny(), tmp_path, [hook], backends=('Local', 'Tensorboard')
    )
    attention, gradients = by_hand(tiny())
    assert sorted(logged) == [2, 4, 6, 8]
    (file,) = tmp_path.glob('*/vis_data/events.out.tfevents.*')
    shown = events.EventAccumulator(str(file)).Reload()
    for step, record in logged.items():
        assert record == pytest.approx(
            {**attention[step], **gradients[step]}, rel=2e-4
        )
        for name, value in record.items():
            points = {p.step: p.value for p in shown.Scalars(f'cgnl/{name}')}
            assert points[step] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    'interval, steps',
    [
        (None, [3, 7]),  # the logger's: third of four, in both epochs
        (50, [4, 8]),  # short epochs are logged at their end
    ],
)
def test_interval(tmp_path, interval, steps):
    hook = dict(type='CGNLStatisticsHook', interval=interval)
    runner, logged = train(tiny(), tmp_path, [hook], interval=3)
    assert sorted(logged) == steps
    hub = runner.message_hub.get_scalar('cgnl/block/attention_mean')
    assert hub.current() == pytest.approx(
        logged[steps[-1]]['block/attention_mean']
    )


def assert_same_weights(one, other):
    """Bit for bit, and not those of the start."""
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    assert not torch.equal(one.block.phi.weight, tiny().block.phi.weight)


@pytest.mark.parametrize('accumulate', [1, 4])
def test_training_is_the_same_bit_for_bit(tmp_path, accumulate):
    models = []
    for name, hooks in (('without', []), ('with', [CGNLStatisticsHook(1)])):
        # running statistics, too
        models.append(tiny(norm_cfg=dict(type='BN')))
        runner, _ = train(
            models[-1], tmp_path / name, hooks, accumulate=accumulate
        )
    assert_same_weights(*models)
    assert not runner.model.block._forward_hooks
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


class Drawn:
    """Samples of which each has noise, as by an augmentation."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        noise = torch.rand(1) + np.random.rand() + random.random()
        inputs = torch.linspace(0, 200, 75).view(3, 5, 5).roll(index) + noise
        return dict(inputs=inputs, label=0)


class Freeze(Hook):
    """Leave a layer in another mode than the network, and look after it."""

    priority = 'VERY_HIGH'

    def after_train_epoch(self, runner):
        runner.model.block.norm.eval()

    def before_val(self, runner):
        assert runner.model.training and not runner.model.block.norm.training


def test_maps_of_fixed_samples_change_nothing(tmp_path):
    models, drawn = [], []
    for maps in (0, 2):
        folder = tmp_path / str(maps)
        models.append(tiny(norm_cfg=dict(type='BN')))
        models[-1].data_preprocessor = ImgDataPreprocessor()
        hooks = [CGNLStatisticsHook(maps=maps), Freeze()]
        train(
            models[-1], folder, hooks, cfg=Config(dict(default_scope='mmdet')),
            val_dataloader=dict(
                dataset=Drawn(),
                sampler=dict(type='DefaultSampler', shuffle=False),
            ),
            val_evaluator=Evaluator([Count()]), val_cfg={},
            randomness=dict(seed=1),
        )  # fmt: skip
        drawn.append((torch.rand(1), np.random.rand(), random.random()))
        assert not models[-1].block._forward_pre_hooks
    assert drawn[0] == drawn[1]
    assert_same_weights(*models)
    pictures = {x.name: x for x in folder.glob('*/vis_data/vis_image/*')}
    assert set(pictures) == {
        f'cgnl_block_{number}_{step}.png'
        for number in range(2)
        for step in (4, 8)
    }
    for path in pictures.values():
        pixels = np.asarray(Image.open(path)).astype(int)
        assert (np.ptp(pixels, -1) > 60).mean() > 0.02  # in colour


def test_accumulated_gradients_are_those_of_the_step(tmp_path):
    """Recorded in iteration 3, of the step that comes after iteration 4."""
    _, logged = train(tiny(), tmp_path, [CGNLStatisticsHook(3)], accumulate=4)
    attention, gradients = by_hand(tiny(), accumulate=4)
    assert logged == {
        3: pytest.approx(attention[3], rel=2e-4),
        4: pytest.approx(gradients[4], rel=2e-4),
        7: pytest.approx(attention[7], rel=2e-4),
        8: pytest.approx(gradients[8], rel=2e-4),
    }


def non_local(**options):
    model = Tiny(NonLocal2d(8, zeros_init=False, std=0.3, **options))
    model._is_init = True  # the Runner would; mmcv's fails with sub_sample
    return model


ALL = ('norm_weight', 'output_ratio')
POWERS = [
    f'attention_p{p}_{x}'
    for p in range(3)
    for x in ('mean', 'std', 'positive')
]


@pytest.mark.parametrize(
    'make, options, names',
    [
        (
            tiny,
            dict(mode='embedded_gaussian', order=2),
            [*ALL, *POWERS, *GRADIENTS],
        ),
        (tiny, dict(mode='none', norm_cfg=False, norm_weight=1.0), ALL),
        (non_local, dict(norm_cfg=dict(type='BN')), [*ALL, *GRADIENTS]),
        (
            non_local,
            dict(sub_sample=True, mode='dot_product'),
            [*ALL, *GRADIENTS],
        ),
    ],
)
def test_block_logs_what_it_has(tmp_path, make, options, names):
    _, logged = train(make(**options), tmp_path, [CGNLStatisticsHook(4)])
    assert set(logged[8]) == {f'block/{name}' for name in names}
    assert logged[8]['block/norm_weight'] > 0


def test_dead_block_is_seen(tmp_path):
    """The norm's weight stays zero: an identity without gradients."""
    model = tiny()
    nn.init.zeros_(model.block.norm.weight)
    model.block.norm.weight.requires_grad_(False)
    _, logged = train(model, tmp_path, [CGNLStatisticsHook(4)])
    record = logged[8]
    assert record['block/norm_weight'] == 0
    assert not any('gradient' in key for key in record)
