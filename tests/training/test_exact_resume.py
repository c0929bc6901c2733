"""Check the random numbers of a training that is not interrupted.

tests/tools checks those of a resumed training.
"""

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from cgnl_mm.training import exact_resume


class Draws:
    """Samples that are random numbers, as an augmentation makes them."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.rand(1)


class Net(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.drawn = []

    def forward(self, inputs, mode='tensor'):
        self.drawn += inputs.flatten().tolist()
        return dict(loss=self.layer(inputs).square().mean())


def drawn(folder, rank, monkeypatch):
    monkeypatch.setattr(exact_resume, 'get_rank', lambda: rank)
    runner = Runner(
        Net(),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Draws(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            batch_size=2,
            collate_fn=lambda x: dict(inputs=torch.stack(x)),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)),
        default_hooks=dict(checkpoint=None),
        custom_hooks=[exact_resume.ExactResumeHook()],
        randomness=dict(seed=1),
        experiment_name=folder.name,
    )
    runner.train()
    return runner.model.drawn


def test_each_rank_draws_numbers_of_its_own(tmp_path, monkeypatch):
    runs = [
        drawn(tmp_path / name, rank, monkeypatch)
        for name, rank in dict(first=0, other=1, again=0).items()
    ]
    assert runs[0] == runs[2]
    assert len({*runs[0], *runs[1]}) == 2 * 8
