"""Run the demo on a few clips, as a user does, and draw its curves."""

import re
import signal

from PIL import Image
from runs import finish, processes_in, wait_for

from cgnl_mm.experiments.demo import BLOCK, PLAIN, draw_curves


def test_demo_stops_fails_and_goes_on(start_tool, tmp_path):
    log = tmp_path / 'work_dirs/c2d_r18_digitclips/train.log'
    demo = 'demo.py', '--quick'
    stopped = start_tool(*demo, cwd=tmp_path)
    wait_for(lambda: log.is_file() and 'mmengine' in log.read_text(), stopped)
    stopped.send_signal(signal.SIGTERM)
    assert finish(stopped, 2).endswith('the same command goes on\n')
    assert not processes_in(tmp_path)
    clips = tmp_path / 'data/digitclips/train.txt'
    aside = clips.rename(tmp_path / 'aside')
    said = finish(start_tool(*demo, cwd=tmp_path), 2)
    assert said.endswith('work_dirs/c2d_r18_digitclips/train.log says why\n')
    aside.rename(clips)
    printed = finish(start_tool(*demo, cwd=tmp_path))
    for label in ('plain network', 'with a CGNL block'):
        assert re.search(rf'  {label} +\d+\.\d %\n', printed)
    for path in printed.splitlines()[-2:]:
        Image.open(tmp_path / path.strip()).load()
    # MMEngine's dump is in the files alone.
    assert 'mmengine' in log.read_text() and 'mmengine' not in printed
    assert 'warning' not in printed.lower()


def test_curves_stand_beside_the_bound():
    curves = {PLAIN: {1: 51.0, 2: 49.0}, BLOCK: {1: 80.0, 2: 96.4}}
    (axes,) = draw_curves(curves).axes
    bound, chance, plain, block = (x.get_ydata() for x in axes.get_lines())
    assert set(bound) == {100 * (1 / 2 + 19 / 108)} and set(chance) == {50}
    assert [*plain, *block] == [51, 49, 80, 96.4]
    texts = [text.get_text() for text in axes.texts]
    assert '67.6 %' in texts[0] and texts[-1] == 'with a CGNL block, 96 %'
