"""A NaN is named where it begins: step, block and groups."""

import os
import signal

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel
from runs import in_two, train_here
from torch import nn

from cgnl_mm import CGNL2d
from cgnl_mm.errors import NonFiniteError
from cgnl_mm.training import NumericsHook, PreemptionHook

GROUPS = 4


class Two(BaseModel):
    """Two blocks, between a stem and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        self.first = CGNL2d(16, groups=GROUPS)
        self.second = CGNL2d(16, groups=GROUPS)
        self.head = nn.Linear(16, 1)
        self.register_buffer('mean', torch.zeros(1))
        self._is_init = True
        for block in (self.first, self.second):
            nn.init.constant_(block.norm.weight, 0.1)

    def forward(self, inputs, mode='tensor'):
        y = self.second(self.first(self.stem(inputs)))
        return dict(loss=self.head(y.mean((2, 3))).square().mean())


class Spoil(Hook):
    """Call ``action(model)`` before the iterations of ``steps``."""

    def __init__(self, action, *steps):
        self.action, self.steps = action, steps

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 in self.steps:
            self.kept = [p.detach().clone() for p in runner.model.parameters()]
            self.action(runner.model)

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 in self.steps:  # as if AMP had left the step out
            for p, kept in zip(runner.model.parameters(), self.kept):
                p.data.copy_(kept)


class Poison(Hook):
    """NaN in a weight or a buffer, for good, after one iteration."""

    def __init__(self, at, where='stem.bias'):
        self.at, self.where = at, where

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.at:
            runner.model.state_dict()[self.where][0] = float('nan')


def train(folder, *hooks, patience=3, model=None, checkpoint=None):
    torch.manual_seed(0)
    try:
        runner = train_here(
            model or Two(),
            folder,
            list(torch.randn(12, 3, 5, 5)),
            [*hooks, NumericsHook(patience=patience)],
            default_hooks=dict(checkpoint=checkpoint),
        )
    finally:
        (log,) = folder.glob('*/*.log')
    runner.said = log.read_text()
    return runner


def spoil_groups(model):
    """W_z of the groups 1 and 3 of the second block."""
    weight = model.second.conv_out.weight.data
    weight[4] = float('nan')
    weight[13] = float('inf')


def spoil_stem(model):
    model.stem.bias.data[3] = float('inf')


def spoil_head(model):
    model.head.bias.data.fill_(float('inf'))


SECOND = 'second: input finite, output not'
EACH_ITERATION = dict(
    type='AtomicCheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=1
)


def test_healthy_run_says_nothing(tmp_path):
    model = Two()
    model.register_buffer('mask', torch.tensor([0.0, float('-inf')]))
    runner = train(tmp_path, model=model, checkpoint=EACH_ITERATION)
    assert 'finite' not in runner.said
    assert (tmp_path / 'iter_12.pth').is_file()
    for block in (runner.model.first, runner.model.second):
        assert not block._forward_hooks  # none stays behind


@pytest.mark.parametrize(
    'spoil, said',
    [
        (spoil_groups, f'{SECOND}, in channel group 1, 3 of 0 to 3; the loss'),
        (spoil_stem, 'first: its input is not finite: the fault is before'),
        (spoil_head, 'no block is seen at fault; the loss is inf'),
    ],
)
def test_origin_is_named_once(tmp_path, spoil, said):
    runner = train(tmp_path, Spoil(spoil, 4, 5))
    assert runner.iter == 12
    (line,) = [x for x in runner.said.splitlines() if 'ERROR' in x]
    assert f'iteration 4, rank 0: {said}' in line


def test_patience_ends_it(tmp_path):
    with pytest.raises(
        NonFiniteError,
        match='3 iterations in a row, up to 9, were not finite. '
        f'It began in iteration 7, rank 0: {SECOND}',
    ):
        # what comes of it begins elsewhere
        train(tmp_path, Spoil(spoil_groups, 7), Spoil(spoil_stem, 8, 9))


# the iterations that are spoilt, how many pass unsaved, how many are reported
SPOILT = [
    ((2, 6, 12), 0, 3),
    ((1, 2, 4, 5, 7, 8), 3, 3),  # they do not add up to three in a row
    ((3, 4, 8, 9), 2, 2),
]


@pytest.mark.parametrize('steps, unsaved, reported', SPOILT)
def test_run_gets_over_few(tmp_path, steps, unsaved, reported):
    spoil = Spoil(spoil_groups, *steps)
    runner = train(tmp_path, spoil, checkpoint=EACH_ITERATION)
    assert runner.iter == 12
    assert runner.said.count('no checkpoint is saved while 2 it') == unsaved
    assert runner.said.count('ERROR') == reported
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_12.pth']


def test_nan_does_not_replace_the_last_good_checkpoint(tmp_path):
    with pytest.raises(NonFiniteError, match='3 iterations in a row, up to 8'):
        train(tmp_path, Poison(5), checkpoint=EACH_ITERATION)
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_4.pth']
    saved = tmp_path / 'iter_4.pth'
    assert (tmp_path / 'last_checkpoint').read_text() == str(saved)
    weights = torch.load(saved)['state_dict']
    assert all(torch.isfinite(w).all() for w in weights.values())
    (log,) = tmp_path.glob('*/*.log')
    said = 'no checkpoint is saved while weights are not finite, such as stem.'
    assert log.read_text().count(said) == 1


ASK = """
import sys
from logging import getLogger
from types import SimpleNamespace
import torch
from cgnl_mm.training import NumericsHook
rank = int(sys.argv[1])
torch.distributed.init_process_group(
    'gloo', init_method='file://' + sys.argv[2], rank=rank, world_size=2)
model = torch.nn.Linear(2, 2)
runner = SimpleNamespace(model=model, hooks=[], logger=getLogger())
hook = NumericsHook()
hook.before_train(runner)
if rank == 1:
    model.weight.data[0] = float('nan')
print(hook.may_save(runner))
"""


def test_nan_of_one_process_keeps_all_from_saving(warm, tmp_path):
    answers = in_two(warm, ASK, tmp_path)
    assert [out for out, _ in answers] == ['False\n', 'False\n'], answers
    assert 'while another process is not finite' in answers[0][1]


def test_preempted_run_does_not_save_nan(tmp_path):
    class Preempt(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter + 1 == 5:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    hooks = (Poison(4), Preempt(), PreemptionHook())
    try:
        with pytest.raises(SystemExit) as end:
            train(tmp_path, *hooks, checkpoint=EACH_ITERATION)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 143
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_3.pth']
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_3.pth')


def test_nan_of_an_average_is_not_saved(tmp_path):
    """The network itself is finite; a checkpoint holds the average."""

    class PoisonAverage(Hook):
        def after_train_iter(self, runner, *args, **kwargs):
            if runner.iter + 1 == 5:
                next(average.ema_model.parameters()).data[0] = float('nan')

    average = EMAHook()
    fault = 'weights are not finite, such as average of module.stem.weight'
    with pytest.raises(NonFiniteError, match=f'ended while {fault}'):
        train(tmp_path, average, PoisonAverage(), checkpoint=EACH_ITERATION)
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_4.pth']


@pytest.mark.parametrize(
    'hook, fault',
    [
        (Poison(12, 'mean'), 'weights are not finite, such as mean'),
        (
            Spoil(spoil_groups, 11, 12),
            '2 iterations in a row were not finite. It began in iteration 11',
        ),
    ],
)
def test_nan_at_the_very_end_is_an_error(tmp_path, hook, fault):
    with pytest.raises(NonFiniteError, match=f'ended while {fault}'):
        train(tmp_path, hook, checkpoint=EACH_ITERATION)


def test_sums_of_half_precision_do_not_overflow(tmp_path):
    """40,000 positions of 60,000: finite, though no float16 holds the sum."""
    hook = NumericsHook()
    hook._groups = {'block': GROUPS}
    block = CGNL2d(16, groups=GROUPS).half()
    x = torch.full((1, 16, 200, 200), 6e4, dtype=torch.float16)
    hook._look('block', block, (x,), x)
    assert all(torch.isfinite(s).all() for s in hook._sums['block'])
