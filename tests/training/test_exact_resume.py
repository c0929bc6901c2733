"""Check the random numbers of a training that is not interrupted.

tests/tools checks those of a resumed training.
"""

import torch
from mmengine.model import BaseModel
from runs import train_here
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
    runner = train_here(
        Net(),
        folder,
        Draws(),
        [exact_resume.ExactResumeHook()],
        randomness=dict(seed=1),
    )
    return runner.model.drawn


def test_each_rank_draws_numbers_of_its_own(tmp_path, monkeypatch):
    runs = [
        drawn(tmp_path / name, rank, monkeypatch)
        for name, rank in dict(first=0, other=1, again=0).items()
    ]
    assert runs[0] == runs[2]
    assert len({*runs[0], *runs[1]}) == 2 * 8
