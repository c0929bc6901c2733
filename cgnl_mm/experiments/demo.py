"""The demo: a question that a network learns with a CGNL block alone."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from matplotlib.figure import Figure
from mmengine.config import Config
from rich.progress import Progress

from ..datasets.relations import additive_bound, prepare_relations
from ..errors import SetupError
from ..hosts import HOME

# The configs. The networks of the last two start from that of the first.
START, PLAIN = 'c2d_r18_digitclips', 'c2d_r18_relations'
BLOCK = 'c2d_r18_cgnl_bn_relations'
LOOKS = {
    PLAIN: ('plain network', '#444444'),
    BLOCK: ('with a CGNL block', '#b2182b'),
}
# A clip of the test, and where its first digit is: x, y, frame.
CLIP, POINT = 'videos/test_00010.mp4', '10,10,0'
# What MMEngine logs: epoch, iteration of how many; epoch, accuracy.
PLACE = re.compile(r'Epoch\(train\) +\[(\d+)\]\[ *(\d+)/(\d+)\]')
RESULT = re.compile(r'Epoch\(val\) +\[(\d+)\].* acc/top1: ([.\d]+)')


def run_demo(out: Path, options: dict, verbose: bool = False) -> None:
    """Train on the relations without and with a block, and draw the results.

    What an earlier call has finished stays as it is.

    Args:
        out (Path): The folder of the runs, their output and the pictures.
        options (dict): Changes of the configs.
        verbose (bool): Whether the tools write to the terminal, in place of
            progress bars. Defaults to False.

    Raises:
        SetupError: A tool failed, or the user stopped the demo.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in (START, PLAIN, BLOCK):
        cfg = Config.fromfile(HOME / f'configs/{name}.py')
        cfg.merge_from_dict(options)
        epochs = cfg.train_cfg.max_epochs
        cfg.default_hooks.logger.interval = 5  # for the progress bars
        cfg.work_dir = str(out / name)
        if name != START:
            cfg.load_from = str(out / START / f'epoch_{epochs}.pth')
        cfg.dump(out / f'{name}.py')
        data = dict(cfg.train_dataloader.dataset)
        root = data.pop('data_root', 'data/relations')
        known = data.keys() & {'task', 'num_train', 'num_test'}
        prepare_relations(root, **{key: data[key] for key in known})
    for names in ((START,), (PLAIN, BLOCK)):
        todo = [n for n in names if epochs not in read_curve(out / n)]
        for name in todo:
            # stopped before its last validation
            if (out / name / f'epoch_{epochs}.pth').exists():
                shutil.rmtree(out / name)
        if todo:
            commands = [('train', name, '--resume') for name in todo]
            follow(out, commands, epochs, verbose)
    maps, picture = out / 'attention', out / 'relations.png'
    files = out / BLOCK / f'epoch_{epochs}.pth', Path(root, CLIP)
    where = '--point', POINT, '--groups', '0', '--out', maps
    command = 'visualize_attention', BLOCK, *files, *where
    follow(out, [command], epochs, verbose)
    curves = {name: read_curve(out / name) for name in LOOKS}
    draw_curves(curves).savefig(picture)
    print('Right answers on digits of other writers:')
    for name, (label, _) in LOOKS.items():
        print(f'  {label:18}{curves[name][epochs]:5.1f} %')
    print('Pictures:', picture, *maps.glob('*_frames.png'), sep='\n  ')


def follow(
    out: Path, commands: list[tuple], epochs: int, verbose: bool
) -> None:
    """Run tools side by side, with progress bars, to their end."""
    threads = len(os.sched_getaffinity(0)) // len(commands)
    env = dict(os.environ, OMP_NUM_THREADS=str(max(threads, 1)))
    # The tools end with the demo, however it is told to.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    running = {}
    try:
        with Progress(disable=verbose) as bars:
            for tool, name, *rest in commands:
                script, config = HOME / f'tools/{tool}.py', out / f'{name}.py'
                log = out / f'{tool}_{name}.log'
                with open(log, 'a') as file:
                    running[log] = subprocess.Popen(
                        [sys.executable, script, config, *rest],
                        stdout=None if verbose else file,
                        stderr=subprocess.STDOUT,
                        env=env,
                    )
                bars.add_task(f'{tool} {name}', total=epochs)
            codes = [None]
            while None in codes:
                time.sleep(0.5)
                for bar, (_, name, *_) in enumerate(commands):
                    bars.update(bar, completed=read_progress(out / name))
                codes = [process.poll() for process in running.values()]
                for log, code in zip(running, codes):
                    if code:
                        raise SetupError(f'a tool failed; {log} says why')
    except KeyboardInterrupt:
        raise SetupError('stopped; the same command goes on') from None
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def read_log(folder: Path) -> str:
    """Return what all sessions of a training have logged."""
    return ''.join(p.read_text() for p in sorted(folder.glob('*/*.log')))


def read_curve(folder: Path) -> dict[int, float]:
    """Return the accuracy after each epoch of a training, in per cent."""
    found = RESULT.findall(read_log(folder))
    return {int(epoch): 100 * float(share) for epoch, share in found}


def read_progress(folder: Path) -> float:
    """Return how many epochs of a training are logged."""
    found = PLACE.findall(read_log(folder))
    done = [int(e) - 1 + int(i) / int(n) for e, i, n in found]
    return max(done, default=0)


def draw_curves(curves: dict[str, dict[int, float]]) -> Figure:
    """Draw the accuracy by epoch, in per cent, beside the bound."""
    bound = 100 * additive_bound('same')
    figure = Figure((4, 2.9), dpi=200, layout='constrained')
    axes = figure.subplots()
    for height in (bound, 50):
        axes.axhline(height, color='0.6', linestyle=':')
    text = f'limit of a sum over frames, {bound:.1f} %'
    axes.text(1, bound + 1, text, color='0.4', fontsize=9)
    side = axes.get_yaxis_transform()  # 1 is the right end of the axes
    axes.text(1.01, 50, 'chance', color='0.4', va='center', transform=side)
    for name, curve in curves.items():
        label, color = LOOKS[name]
        last = max(curve)
        axes.plot(curve.keys(), curve.values(), 'o-', color=color)
        look = dict(color=color, ha='right', va='top', weight='bold')
        below = min(y for x, y in curve.items() if x > last / 4) - 3
        axes.text(last, below, f'{label}, {curve[last]:.0f} %', look)
    axes.set(xlabel='epoch', ylabel='right answers, %', ylim=(30, 102))
    axes.set_xticks(range(1, last + 1))
    axes.spines[['top', 'right']].set_visible(False)
    return figure
