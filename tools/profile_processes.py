"""What a training step costs in several processes: compute, all-reduce, both.

    python tools/profile_processes.py --network R-50 --processes 2
    python tools/profile_processes.py --network I3D --blocks 5 --batch 1

The processes run on this machine, one thread each (--device cuda: one GPU
each), and take in turn: steps of their own, with nothing to exchange; the
all-reduce of the gradients alone; distributed steps. A distributed step lies
between the longer of the two, where the exchange hides behind the backward
pass, and their sum. docs/scaling.md predicts larger clusters from it.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from _common import run

LAYOUTS = {0: 'no block', 1: '1 block', 5: '5 blocks'}
BUCKET = 25 * 2**20  # bytes; DistributedDataParallel's default


def worker(rank: int, args: argparse.Namespace, folder: str) -> None:
    """One process: measure, and write the medians to ``folder``."""
    import _bench_networks as networks
    import torch
    import torch.distributed as dist
    from mmengine.logging import MMLogger
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import OptimWrapper

    import cgnl_mm  # noqa: F401  repairs the hosts

    is_cuda = args.device == 'cuda'
    device = f'cuda:{rank}' if is_cuda else 'cpu'
    torch.set_num_threads(1)
    dist.init_process_group(
        'nccl' if is_cuda else 'gloo',
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=args.processes,
    )
    MMLogger.get_current_instance().setLevel('ERROR')
    network = find_network(args)
    torch.manual_seed(0)
    layout = torch.contiguous_format
    models = networks.build(network, 'auto', device, layout)
    model = models[LAYOUTS[args.blocks]].train()
    del models
    batch = networks.BATCHES[len(network.size), hasattr(model, 'roi_head')](
        network
    )
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.0, momentum=0.9)
    wrapper = OptimWrapper(optimizer)
    distributed = MMDistributedDataParallel(
        model,
        device_ids=[rank] if is_cuda else None,
        broadcast_buffers=False,
        find_unused_parameters=False,
    )
    total = sum(p.numel() for p in parameters)
    buckets = [
        torch.zeros(min(BUCKET // 4, total - start), device=device)
        for start in range(0, total, BUCKET // 4)
    ]

    def exchange():
        works = [dist.all_reduce(bucket, async_op=True) for bucket in buckets]
        for work in works:
            work.wait()

    calls = dict(
        compute=lambda: model.train_step(batch, wrapper),
        exchange=exchange,
        distributed=lambda: distributed.train_step(batch, wrapper),
    )
    samples = {name: [] for name in calls}
    for number in range(args.steps + 1):
        for name, call in calls.items():
            if is_cuda:
                torch.cuda.synchronize()
            dist.barrier()  # all start together
            start = time.perf_counter()
            call()
            if is_cuda:
                torch.cuda.synchronize()
            if number:  # the first warms up
                samples[name].append(time.perf_counter() - start)
    result = dict(samples=samples, megabytes=4e-6 * total)
    Path(folder, f'{rank}.json').write_text(json.dumps(result))
    dist.destroy_process_group()


def find_network(args: argparse.Namespace):
    """The network of tools/benchmark.py that ``--network`` names."""
    import dataclasses

    import _bench_networks as networks

    from cgnl_mm.errors import SetupError

    known = networks.networks(args.device, args.quick)
    for network in known:
        if network.name.startswith(args.network):
            batch = args.batch or network.batch
            return dataclasses.replace(network, batch=batch)
    names = ', '.join(network.name for network in known)
    raise SetupError(f'--network {args.network!r}: known are {names}')


def report(results: list[dict]) -> list[str]:
    """Markdown: milliseconds, medians over steps of the slowest process."""
    median = {}
    for name in results[0]['samples']:
        steps = zip(*(result['samples'][name] for result in results))
        median[name] = 1e3 * statistics.median(map(max, steps))
    compute, exchange = median['compute'], median['exchange']
    low, high = max(compute, exchange), compute + exchange
    count, megabytes = len(results), results[0]['megabytes']
    # a ring sends each byte 2 (n - 1) / n times
    sent = 2 * (count - 1) / count * megabytes
    return [
        '| | ms |',
        '|---|---|',
        f'| step of its own | {compute:.0f} |',
        f'| all-reduce of {megabytes:.1f} MB | {exchange:.0f} |',
        f'| predicted, all of it hidden | {low:.0f} |',
        f'| predicted, none of it hidden | {high:.0f} |',
        f'| distributed step | {median["distributed"]:.0f} |',
        '',
        f'all-reduce: {sent / exchange:.2f} GB/s a process; efficiency '
        f'{compute / median["distributed"]:.0%}',
    ]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        '--network',
        default='R-50',
        help='beginning of a name: R-50, I3D, Mask; default: R-50',
    )
    add(
        '--blocks',
        type=int,
        choices=sorted(LAYOUTS),
        default=1,
        help='default: 1',
    )
    add('--batch', type=int, help='images or clips of a process')
    add('--processes', type=int, default=2, help='default: 2')
    add('--steps', type=int, default=7, help='default: 7')
    add(
        '--device', choices=['cpu', 'cuda'], default='cpu', help='default: cpu'
    )
    add('--quick', action='store_true',
        help='tiny inputs: shows that it works, measures nothing')  # fmt: skip
    args = parser.parse_args(argv)
    for name, least in (('processes', 2), ('steps', 1), ('batch', 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f'--{name} must be at least {least}, got {value}')
    return args


def main() -> None:
    args = parse_args()
    import torch

    import cgnl_mm  # noqa: F401  repairs the hosts
    from cgnl_mm.errors import SetupError

    network = find_network(args)
    if args.device == 'cuda' and torch.cuda.device_count() < args.processes:
        raise SetupError(
            f'--processes {args.processes}: PyTorch sees '
            f'{torch.cuda.device_count()} GPUs'
        )
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(
            worker, (args, folder), nprocs=args.processes
        )
        results = [
            json.loads(Path(folder, f'{rank}.json').read_text())
            for rank in range(args.processes)
        ]
    print(
        f'{network.name}, {LAYOUTS[args.blocks]}, {args.processes} processes '
        f'of {network.batch} x {network.size}; torch {torch.__version__}, '
        f'{args.device}\n'
    )
    print('\n'.join(report(results)))


if __name__ == '__main__':
    run(main)
