"""The page of ``visualize_attention.py --html``, in a real browser."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from demos import trained
from PIL import Image

from cgnl_mm.datasets.moving_digits import prepare_moving_digits
from cgnl_mm.visualization import attention_map, find_blocks
from cgnl_mm.visualization.inputs import load_sample, look
from cgnl_mm.visualization.page import write_page

CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser'))), None
)
# What a reader does: a click at 3/4 of a picture's width and 1/4 of its
# height; by the keyboard, a cell to the left, a frame later, the second group.
READER = """
<script>addEventListener('error', window.close);
setTimeout(window.close, 60000);
const waiting = setInterval(() => {
  const canvas = document.querySelector('canvas');
  if (!canvas) return;
  clearInterval(waiting);
  const box = canvas.getBoundingClientRect();
  const clientX = box.left + .76 * box.width;
  const clientY = box.top + .26 * box.height;
  canvas.dispatchEvent(new MouseEvent('click', {clientX, clientY}));
  for (const key of ['ArrowLeft', '.', 'g', 'g'])
    document.querySelector('canvas').dispatchEvent(
      new KeyboardEvent('keydown', {key, bubbles: true}));
  const block = page.blocks[0], group = +state.group || 0;
  console.log('seen ' + JSON.stringify({...state,
    panels: document.querySelectorAll('canvas').length,
    map: [...attention(block, group)]}));
  window.close();
}, 20)</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason='chromium is not installed')
@pytest.mark.parametrize('name, options, panels', [
    ('i3d_r18_cgnl_movingdigits', dict(mode='embedded_gaussian'), 9),
    ('r18_cgnl_digits', {}, 2),
])  # fmt: skip
def test_reader_sees_the_map_of_the_position_that_he_chooses(
    name, options, panels, tmp_path
):
    torch.manual_seed(0)
    cfg, model = trained(name, **options)
    is_clip = name.startswith('i3d')
    file, out = tmp_path / 'digit.png', tmp_path / 'a.html'
    if is_clip:
        prepare_moving_digits(str(tmp_path / 'm'), num_train=1, num_test=1)
        file = next((tmp_path / 'm/videos').glob('test*.mp4'))
    else:
        pixels = np.random.default_rng(0).integers(0, 255, (28, 28))
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    write_page(model, cfg, file, out)
    text = out.read_text()
    assert not re.search(r'(src|href)=|https?:', text)  # It loads nothing.

    out.write_text(text + READER)
    found = subprocess.run(
        [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu',
         '--enable-logging=stderr', out.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    told = re.search(r'seen (\{.*\})', found.stderr)
    assert told, found.stderr
    seen = json.loads(told[1])
    ((key, block),) = find_blocks(model).items()
    looked = look(model, cfg, {key: block}, load_sample(cfg, file))
    frames, (height, width) = looked.frames, looked.size
    x = looked.blocks[key][:1]
    left = width * 3 // 4 - width // x.shape[-1]
    at = dict(frame=len(frames) // 2 + is_clip, x=left)
    assert {k: seen[k] for k in at} == at
    assert seen['y'] == height // 4 and seen['panels'] == panels

    sizes = x.shape[2:]
    cell = [at['frame'] * sizes[0] // len(frames)] if is_clip else []
    cell += [seen['y'] * sizes[-2] // height, at['x'] * sizes[-1] // width]
    maps = attention_map(block, x, cell)[0]
    group = seen['group']
    truth = maps[group].flatten().double()
    if 'mode' in options:  # without the constant term
        truth = truth - truth.mean()
    drawn = torch.tensor(seen['map'], dtype=torch.float64)
    drawn, truth = drawn / drawn.abs().max(), truth / truth.abs().max()
    assert (drawn - truth).abs().max() < 1e-5
