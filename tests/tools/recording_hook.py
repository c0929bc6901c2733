"""A hook that writes down what each process computes.

The processes of test_distributed.py import it by ``custom_imports``.
"""

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.distributed.fsdp import FullyShardedDataParallel

from cgnl_mm import CGNL3d


def start_attending(model):
    """Give all parameters of the blocks a gradient: none starts at zero."""
    blocks = [m for m in model.modules() if isinstance(m, CGNL3d)]
    assert blocks
    for block in blocks:
        torch.nn.init.constant_(block.norm.weight, 0.5)
        if block.mode == 'learnable':
            with torch.no_grad():
                block.coefficients.copy_(torch.tensor([0.3, 1, 0.2, 0.1]))


def weights(model):
    """Copies of parameters and buffers, named as in one process."""
    return {
        name.removeprefix('module.'): value.clone()
        for name, value in model.state_dict().items()
    }


@HOOKS.register_module()
class RecordingHook(Hook):
    """Saves ``rank{R}.pt``: the first gradients, the last weights, ...

    Args:
        attend (bool): Whether to start with blocks that are not the identity.
            Defaults to False.
    """

    def __init__(self, attend=False):
        self.attend = attend
        self.record = {'losses': []}

    def before_train(self, runner):
        if self.attend:
            start_attending(runner.model)

        def keep_first_gradients(*_):
            if 'gradients' not in self.record:
                self.record['gradients'] = {
                    name.removeprefix('module.'): p.grad.clone()
                    for name, p in runner.model.named_parameters()
                    if p.grad is not None  # FSDP: of another process
                }

        runner.optim_wrapper.optimizer.register_step_pre_hook(
            keep_first_gradients
        )

        self.record['start'] = weights(runner.model)

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):  # fmt: skip
        self.record['losses'].append(float(outputs['loss']))

    def after_train(self, runner):
        self.record['world_size'] = get_world_size()
        self.record['sharded'] = [
            type(module.module).__name__
            for module in runner.model.modules()
            if isinstance(module, FullyShardedDataParallel)
        ]
        self.record['weights'] = weights(runner.model)
        torch.save(self.record, f'{runner.work_dir}/rank{get_rank()}.pt')
