"""What README.md and docs/ tell the reader to type runs as it stands.

Blocks of a page run in order, in a copy of the configs and tools whose demos
are small (``SMALL``): bash blocks as they are; python blocks each by itself;
those whose first line is ``# NAME.py`` are written to that file, and a config
among them trains a step. The package is not copied: ``python`` is the warm
process, which has imported ``cgnl_mm`` from this checkout. HTML comments
before a block say what else is to be done:

    <!-- config on: configs/FILE.py -->   inherits from it, trains a step
    <!-- not run: needs/installs/measures WHAT -->   and why not

Anything else fails, so that no block escapes. The README runs in the fast
tier, the other pages in the nightly one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from cgnl_mm.cli import load_config
from cgnl_mm.experiments.grid import read_grid
from cgnl_mm.training.fsdp import obstacle_on_cpu

ROOT = Path(__file__).parents[2]
PAGES = ['README.md', 'DESCRIPTION.md']
PAGES += sorted(f'docs/{page.name}' for page in ROOT.glob('docs/*.md'))
GRIDS = 'configs/grids/README.md'
PAGES += [GRIDS]
# for these, only that what they name exists
NOT_RUN = ['configs/README.md']
PROSE = ('bibtex', 'text')
REASON = r'(needs|installs|measures) \w'
COPIED = ('configs', 'tools', 'requirements')

# Appended to recipes of the copy: as many epochs, next to no data.
SMALL = {
    'r18_digits': """
model['backbone'].update(stem_channels=8, base_channels=8)
model['head'].update(in_channels=64)
train_dataloader.update(batch_size=256)
""",
    'i3d_r18_movingdigits': """
model['backbone'].update(base_channels=8)
model['cls_head'].update(in_channels=64)
train_dataloader.update(batch_size=4)
train_dataloader['dataset'].update(num_train=8, num_test=8)
val_dataloader['dataset'].update(num_train=8, num_test=8)
""",
    'mask_rcnn_r18_fpn_digitscenes': """
train_dataloader['dataset'].update(num_train=8, num_test=4)
val_dataloader['dataset'].update(num_train=8, num_test=4)
""",
}
EVERY = """
train_cfg.update(val_interval=train_cfg['max_epochs'])
for loader in (train_dataloader, val_dataloader):
    loader.update(num_workers=0, persistent_workers=False)
del loader
"""

BLOCK = re.compile(
    r'(?:^<!--(?P<marker>(?:(?!-->).)*)-->\n)?'
    r'^(?P<ticks>```+)(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=ticks)$',
    re.MULTILINE | re.DOTALL,
)
FILE = re.compile(r'# (\w+\.py)\n')


class Block(NamedTuple):
    where: str  # page:line
    language: str
    kind: str  # 'not run', 'config on' or ''
    argument: str
    text: str


def blocks(page):
    source = (ROOT / page).read_text('utf-8')
    for match in BLOCK.finditer(source):
        kind, _, argument = (match['marker'] or '').partition(':')
        line = source.count('\n', 0, match.start('text')) + 1
        yield Block(
            f'{page}:{line}',
            match['language'].strip(),
            kind.strip(),
            argument.strip(),
            match['text'],
        )


@pytest.mark.parametrize('page', PAGES)
def test_no_block_escapes(page):
    source = (ROOT / page).read_text('utf-8')
    found = list(blocks(page))
    fences = re.findall(r'^\s*(?:```|~~~)', source, re.MULTILINE)
    assert len(fences) == 2 * len(found), 'indented or unclosed fence'
    markers = re.findall(r'<!-- *(?:not run|config on)', source)
    assert len(markers) == sum(bool(b.kind) for b in found), (
        'a marker stands right above its block, on one line'
    )
    for block in found:
        if block.language in PROSE or block.language.startswith('{'):
            continue
        assert block.language in ('bash', 'python') or page == GRIDS, block
        assert block.kind in ('', 'not run', 'config on'), block
        if block.kind == 'not run':
            assert re.match(REASON, block.argument), block
        elif block.kind == 'config on':
            assert (ROOT / block.argument).is_file(), block


@pytest.mark.parametrize('page', [*PAGES, *NOT_RUN])
def test_commands_name_what_exists(page):
    """Those that are not run, too: scripts, configs, options."""
    sources = '\n'.join(
        path.read_text('utf-8')
        for folder in ('tools', 'cgnl_mm/cli')
        for path in (ROOT / folder).rglob('*.py')
    )
    for block in blocks(page):
        if block.language != 'bash':
            continue
        subprocess.run(['bash', '-n'], input=block.text, text=True, check=True)
        text = block.text.replace('\\\n', ' ')
        for path in re.findall(r'\b(?:tools|configs)/[\w./]+', text):
            if not Path(path).stem.isupper():  # a placeholder
                assert (ROOT / path).is_file(), f'{block.where}: {path}'
        for line in text.splitlines():
            if 'tools/' in line:
                for option in re.findall(r' (--[\w-]+)', line):
                    assert f"'{option}'" in sources, f'{block.where}: {option}'


def test_grid_of_a_page_is_one(checkout):
    """What the README of the grids shows is read as a grid file is."""
    (shown,) = [x for x in blocks(GRIDS) if x.language == 'yaml']
    path = checkout / 'configs/grids/shown.yaml'
    path.write_text(shown.text, 'utf-8')  # its configs are seen from there
    grid = read_grid(path)
    assert len(grid.cells) == 2
    for cell in grid.cells.values():
        cfg = load_config(cell.config, cell.options)
        assert cfg.model.backbone.type == 'ResNet'


@pytest.fixture
def checkout(tmp_path):
    """A copy in which the demos take seconds."""
    for name in COPIED:
        shutil.copytree(
            ROOT / name,
            tmp_path / name,
            ignore=shutil.ignore_patterns('__pycache__', '.mim'),
        )
    for name, lines in SMALL.items():
        recipe = tmp_path / f'configs/_base_/recipe_{name}.py'
        text = recipe.read_text('utf-8')
        recipe.write_text(text + lines + EVERY, 'utf-8')
    return tmp_path


def run(command, where, folder, warm):
    # The warm python comes before the commands beside this interpreter.
    path = (warm.parent, Path(sys.executable).parent, os.environ['PATH'])
    env = dict(os.environ, PATH=os.pathsep.join(map(str, path)))
    env.pop('PYTHONPATH', None)
    # timeout kills what the command has started, too.
    done = subprocess.run(
        ['timeout', '--signal=KILL', '300', *command],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f'{where}\n{done.stdout[-6000:]}'


def nightly(page):
    return pytest.param(page, marks=pytest.mark.nightly)


@pytest.mark.parametrize('page', ['README.md', *map(nightly, PAGES[1:])])
def test_page_runs(page, checkout, warm):
    if page.endswith('distributed.md') and obstacle_on_cpu():
        pytest.skip(f'FSDP on a CPU: {obstacle_on_cpu()}')
    jobs = []
    for number, block in enumerate(blocks(page)):
        if block.kind == 'not run':
            continue
        file = FILE.match(block.text)
        if block.language == 'bash':
            command = ['bash', '-euo', 'pipefail', '-c', block.text]
            run(command, block.where, checkout, warm)
        elif block.kind == 'config on':
            path = checkout / f'block_{number}.py'
            text = re.sub(r"^_base_ = 'your_.*\n", '', block.text)
            text = f"_base_ = '{block.argument}'\n{text}"
            path.write_text(text, 'utf-8')
            jobs.append(('config', block.where, str(path)))
        elif block.language == 'python' and file:
            (checkout / file[1]).write_text(block.text, 'utf-8')
            if '\n_base_ = ' in block.text:
                jobs.append(('file', block.where, file[1]))
        elif block.language == 'python':
            jobs.append(('python', block.where, block.text))
    if jobs:
        script = Path(__file__).with_name('run_python.py')
        models = ROOT / 'tests/configs/test_models.py'
        command = [warm, script, models, json.dumps(jobs)]
        run(command, page, checkout, warm)
