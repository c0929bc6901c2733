"""The demo: a question that a network learns with a CGNL block alone."""

import os
import re
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

from matplotlib.figure import Figure
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
RUNS, EPOCHS = Path('work_dirs'), 6
# A clip of the test, and where its first digit is: x, y, frame.
CLIP, POINT = 'data/relations/videos/test_00010.mp4', '10,10,0'
# What MMEngine logs: epoch, iteration of how many; epoch, accuracy.
PLACE = re.compile(r'Epoch\(train\) +\[(\d+)\]\[ *(\d+)/(\d+)\]')
RESULT = re.compile(r'Epoch\(val\) +\[(\d+)\].* acc/top1: ([.\d]+)')


def run_demo(quick: bool = False, verbose: bool = False) -> None:
    """Train on the relations without and with a block, and draw the results.

    What is trained already is not trained again.

    Args:
        quick (bool): Whether to take a few clips, which teach nothing.
            Defaults to False.
        verbose (bool): Whether the tools write to the terminal, in place of
            progress bars. Defaults to False.

    Raises:
        SetupError: A tool failed, or the user stopped the demo.
    """
    digits, pairs, options = dict(num_train=4000), {}, []
    if quick:
        digits = pairs = dict(num_train=48, num_test=48)
        keys = product(('train', 'val'), pairs.items())
        options = [f'{a}_dataloader.dataset.{b}={n}' for a, (b, n) in keys]
        options = ['--cfg-options', *options]
    prepare_relations('data/digitclips', task='digit', **digits)
    prepare_relations('data/relations', **pairs)
    last = f'epoch_{EPOCHS}.pth'
    for names in ((START,), (PLAIN, BLOCK)):
        todo = [name for name in names if not (RUNS / name / last).exists()]
        if todo:
            follow('train', todo, ['--resume', *options], verbose)
    seen = RUNS / BLOCK / last, CLIP, '--point', POINT, '--groups', '0'
    follow('visualize_attention', [BLOCK], seen, verbose)
    curves = {name: read_log(name)[1] for name in LOOKS}
    picture = RUNS / 'relations.png'
    draw_curves(curves).savefig(picture)
    print('Right answers on digits of other writers:')
    for name, (label, _) in LOOKS.items():
        print(f'  {label:18}{curves[name][max(curves[name])]:5.1f} %')
    pictures = (RUNS / BLOCK).glob('attention/*.gif')
    print('Pictures:', picture, *pictures, sep='\n  ')


def follow(tool: str, names: list[str], options: list, verbose: bool) -> None:
    """Run a tool on configs side by side, and show how far it is."""
    # The processes end with the demo, however it is told to.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threads = len(os.sched_getaffinity(0)) // len(names)
    env = dict(os.environ, OMP_NUM_THREADS=str(max(threads, 1)))
    logs = {name: RUNS / name / f'{tool}.log' for name in names}
    running = {}
    try:
        with Progress(disable=verbose) as bars:
            for name, log in logs.items():
                log.parent.mkdir(parents=True, exist_ok=True)
                config = HOME / f'configs/{name}.py'
                command = sys.executable, HOME / f'tools/{tool}.py', config
                with open(log, 'a') as file:
                    running[log] = subprocess.Popen(
                        [*command, *options],
                        stdout=None if verbose else file,
                        stderr=subprocess.STDOUT,
                        env=env,
                    )
                bars.add_task(f'{tool} {name}', total=EPOCHS)
            codes = [None] * len(names)
            while None in codes:
                time.sleep(0.5)
                for bar, name in enumerate(names):
                    bars.update(bar, completed=read_log(name)[0])
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


def read_log(name: str) -> tuple[float, dict[int, float]]:
    """Return how many epochs of a training are logged, and the accuracies."""
    logs = sorted((RUNS / name).glob('*/*.log'))
    text = ''.join(log.read_text() for log in logs)
    places = PLACE.findall(text)
    done = [int(e) - 1 + int(i) / int(n) for e, i, n in places]
    curve = {int(e): 100 * float(share) for e, share in RESULT.findall(text)}
    return max(done, default=0), curve


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
