"""A hook that writes down what each process computes.

The processes of test_distributed.py import it by ``custom_imports``.
"""

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.distributed.fsdp import FullyShardedDataParallel


def weights(model):
    """Copies of parameters and buffers, named as in one process."""
    return {
        name.removeprefix('module.'): value.clone()
        for name, value in model.state_dict().items()
    }


@HOOKS.register_module()
class RecordingHook(Hook):
    """Saves ``rank{R}.pt``: the first gradients, the last weights, ..."""

    def __init__(self):
        self.record = {'losses': []}

    def before_train(self, runner):
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
