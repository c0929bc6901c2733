"""Carry the gradients of a group of iterations that a checkpoint cuts."""

from typing import Dict

import torch
from mmengine import dist
from mmengine.runner import Runner
from torch import Tensor


def mean_gradients(runner: Runner) -> Dict[str, Tensor]:
    """Copy the gradients that wait for the optimizer's next step.

    ``accumulative_counts`` makes groups of iterations that share a step.
    Until then each process has gradients of its own. Their mean over the
    processes leads to the same step, up to rounding. Every process has to
    call this.

    Args:
        runner (Runner): The runner of the training. FlexibleRunner may
            shard the gradients, and gets none.

    Returns:
        dict[str, Tensor]: The gradients by the parameters' names, on the
        CPU; empty between two groups.
    """
    if not _is_within_group(runner):
        return {}
    named = [x for x in runner.model.named_parameters() if x[1].requires_grad]
    # a process may not have used a parameter yet
    there = torch.tensor([p.grad is not None for _, p in named]).int()
    dist.all_reduce(there, 'max')
    found = {}
    for (name, weight), is_there in zip(named, there.tolist()):
        if is_there:
            grad = weight.grad
            grad = torch.zeros_like(weight) if grad is None else grad.clone()
            dist.all_reduce(grad, 'mean')
            found[name.removeprefix('module.')] = grad.cpu()
    return found


def restore_gradients(runner: Runner, gradients: Dict[str, Tensor]) -> None:
    """Go on with gradients of :func:`mean_gradients` inside their group."""
    if not gradients or not _is_within_group(runner):
        return
    runner.logger.info('the gradients of the group were in the checkpoint')
    for name, weight in runner.model.named_parameters():
        grad = gradients.get(name.removeprefix('module.'))
        if grad is not None:
            weight.grad = grad.to(weight)


def _is_within_group(runner: Runner) -> bool:
    wrapper = runner.optim_wrapper
    counts = getattr(wrapper, '_accumulative_counts', 1)
    is_grouped = isinstance(runner, Runner) and counts > 1
    return is_grouped and not wrapper.should_update()
