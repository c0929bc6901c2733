"""Check what a run computes that is interrupted, against one that is not.

tests/tools/test_resume.py does so with real processes and networks.
"""

import os
import signal
from collections import Counter

import pytest
import torch
from mmengine.hooks import EarlyStoppingHook, Hook
from runs import Count, Net, in_two, stack, train_here

from cgnl_mm.training import AtomicCheckpointHook, PreemptionHook, exact_resume
from cgnl_mm.training.exact_resume import ExactResumeHook


class Draws:
    """Samples that are random numbers, as an augmentation makes them."""

    def __init__(self, length=4):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return torch.rand(1) + index


def drawn(folder, rank, monkeypatch):
    monkeypatch.setattr(exact_resume, 'get_rank', lambda: rank)
    runner = train_here(
        Net(), folder, Draws(), [ExactResumeHook()], randomness=dict(seed=1)
    )
    return runner.model.drawn


def test_each_rank_draws_numbers_of_its_own(tmp_path, monkeypatch):
    runs = [
        drawn(tmp_path / name, rank, monkeypatch)
        for name, rank in dict(first=0, other=1, again=0).items()
    ]
    assert runs[0] == runs[2]
    assert len({*runs[0], *runs[1]}) == 2 * 8


class Killed(Exception):
    """The process is gone."""


class Interrupt(Hook):
    """End a run in an iteration, as a cluster does or as a crash does."""

    priority = 'LOWEST'  # what saves in this iteration has saved

    def __init__(self, how, at):
        self.how, self.at = how, at

    def before_train_iter(self, runner, **kwargs):
        if self.how == 'SIGTERM' and runner.iter + 1 == self.at:
            os.kill(os.getpid(), signal.SIGTERM)

    def after_train_iter(self, runner, **kwargs):
        if self.how == 'kill' and runner.iter + 1 == self.at:
            raise Killed


EACH = dict(interval=1, by_epoch=False, max_keep_ckpts=1)


def train(
    folder, length=6, counts=1, epochs=3, hooks=(), resume=None,
    checkpoint=EACH, batch=2, **given,
):  # fmt: skip
    """Return the runner, or the network of a run that was interrupted."""
    torch.manual_seed(0)
    net, data = Net(), Draws(length)
    loader = dict(
        dataset=data,
        sampler=dict(type='DefaultSampler', shuffle=True),
        batch_size=batch,
        collate_fn=stack,
    )
    optimizer = dict(type='AdamW', lr=1e-2)
    try:
        return train_here(
            net,
            folder,
            data,
            [ExactResumeHook(), PreemptionHook(), *hooks],
            epochs,
            resume,
            train_dataloader=loader,
            optim_wrapper=dict(
                optimizer=optimizer, accumulative_counts=counts
            ),
            param_scheduler=dict(
                type='OneCycleLR', eta_max=0.1, total_steps=24, by_epoch=False
            ),
            default_hooks=dict(checkpoint=AtomicCheckpointHook(**checkpoint)),
            randomness=dict(seed=1),
            **given,
        )
    except (Killed, SystemExit):
        return net


@pytest.mark.parametrize(
    'how, length, counts, at',
    [
        # the last iteration of an epoch, of the last one, of the only batch
        ('SIGTERM', 6, 1, 6),
        ('kill', 6, 1, 6),
        ('SIGTERM', 6, 1, 9),
        ('SIGTERM', 2, 1, 2),
        # inside a group of gradients, too, and at its end
        ('kill', 6, 4, 3),
        ('SIGTERM', 6, 4, 5),
        ('kill', 6, 4, 4),
    ],
)
def test_interrupted_run_equals_the_whole_one(
    tmp_path, how, length, counts, at
):
    whole = train(tmp_path / 'whole', length, counts)
    folder = tmp_path / 'run'
    first = train(folder, length, counts, hooks=[Interrupt(how, at)])
    last = train(folder, length, counts, resume=True)
    assert (whole.epoch, whole.iter) == (last.epoch, last.iter)
    assert first.drawn + last.model.drawn == whole.model.drawn
    for one, other in zip(whole.model.parameters(), last.model.parameters()):
        assert torch.equal(one, other)
    schedules = [run.param_schedulers[0].state_dict() for run in (whole, last)]
    assert schedules[0] == schedules[1]
    names = {path.name for path in folder.glob('*.pth*')}
    left = {'preempted.pth'} if at == whole.iter else set()
    assert names == {f'iter_{whole.iter}.pth', *left}


GATHER = """
import sys
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from cgnl_mm.training.accumulation import mean_gradients
rank = int(sys.argv[1])
torch.distributed.init_process_group(
    'gloo', init_method='file://' + sys.argv[2], rank=rank, world_size=2)
runner = Runner.__new__(Runner)
runner.model = torch.nn.ParameterDict(
    {name: torch.zeros(1) for name in ('both', 'one', 'none')})
optimizer = torch.optim.SGD(runner.model.parameters(), lr=1)
runner.optim_wrapper = OptimWrapper(optimizer, accumulative_counts=2)
print(mean_gradients(runner))
runner.optim_wrapper._inner_count = 1
runner.model['both'].grad = torch.tensor([2. + 4 * rank])
if rank:
    runner.model['one'].grad = torch.tensor([8.])
print({name: grad.item() for name, grad in mean_gradients(runner).items()})
"""


def test_processes_share_one_copy_of_the_gradients(warm, tmp_path):
    """A parameter may have no gradient yet, in one process or in all."""
    for out, _ in in_two(warm, GATHER, tmp_path):
        assert out == "{}\n{'both': 4.0, 'one': 4.0}\n"


@pytest.mark.parametrize('length, batch, left, said', [
    (4, 2, 0, '2 of 4'),
    (10, 2, 6, '2 of 10'),
    (6, 1, 2, '1 of 6'),
])  # fmt: skip
def test_other_data_are_said_and_epochs_stay_passes(
    tmp_path, capsys, length, batch, left, said
):
    """Two of three batches are done; then there are two, five or six."""
    train(tmp_path, hooks=[Interrupt('SIGTERM', 2)])
    last = train(tmp_path, length, resume=True, batch=batch)
    assert last.epoch == 3
    seen = Counter(int(x) for x in last.model.drawn)
    assert sum(seen.values()) == left + 2 * length
    told = f'takes {said} samples, before the checkpoint it took 2 of 6'
    assert capsys.readouterr().out.count(told) == 1


class Score(Hook):
    """Give each epoch a score; the best one is that of the second epoch."""

    priority = 'VERY_HIGH'
    scores = (1.0, 3.0, 2.9, 2.0, 2.5, 2.0, 2.0, 2.0)

    def after_val_epoch(self, runner, metrics=None):
        metrics['score'] = self.scores[runner.epoch - 1]


@pytest.mark.parametrize(
    'options, at, epochs',
    [
        # in mid-epoch; right after the best one was saved, and a later one
        (dict(patience=3), 11, 5),
        (dict(patience=3), 7, 5),
        (dict(patience=3), 13, 5),
        # by a score that is saved
        (dict(patience=9, stopping_threshold=2.95), 5, 2),
    ],
)
def test_early_stopping_stops_where_the_whole_run_does(
    tmp_path, options, at, epochs
):
    def run(*hooks, resume=None):
        stopping = EarlyStoppingHook('score', 'greater', 0, **options)
        return train(
            tmp_path,
            epochs=8,
            hooks=[Score(), stopping, *hooks],
            resume=resume,
            evaluate=[Count()],
            checkpoint=dict(interval=1, save_best='score', rule='greater'),
        )

    run(Interrupt('kill', at))
    assert run(resume=True).epoch == epochs
    # it is over
    again = run(resume=True)
    assert (again.epoch, again.model.drawn) == (epochs, [])
