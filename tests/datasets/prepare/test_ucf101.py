"""UCF101: where its clips are, and what is none."""

import wave
from pathlib import Path

from miniatures import ACTIONS, action, write_clip

from cgnl_mm.datasets.prepare.ucf101 import locate

VIDEOS = Path('data/ucf101/videos')


def test_flat_folder_elsewhere(start, samples):
    run, videos = start('ucf101'), Path('my clips')
    videos.mkdir()
    for path in VIDEOS.rglob('*.avi'):
        path.rename(videos / path.name)
    (videos / 'v_Other_g01_c01.AVI').write_bytes(b'clip')
    out = run('--videos', videos)
    assert f"ln -sfT '{videos.resolve()}' data/ucf101/videos" in out
    assert '1 .avi files in no list' in out
    VIDEOS.rename('empty')
    VIDEOS.symlink_to(videos.resolve())
    for path, label in samples('ucf101')[1]:
        assert Path(path).is_file()
        assert ACTIONS[label][:5].lower() in Path(path).name.lower()


def test_lines_that_come_again_are_used_once(start, samples):
    """And what is tested is not trained with."""
    run = start('ucf101')
    with open('ucfTrainTestlist/trainlist01.txt', 'a') as file:
        file.write(f'{action("YoYo", 6)} 3\n{action("YoYo", 1)} 3\n')
    assert '3 classes, 1 repeated lines' in run()
    assert len(samples('ucf101')[0]) == 12
    assert (
        f'train 1\t{action("YoYo", 1)}\tYoYo\talso in the test list\n'
    ) in Path('data/ucf101/unusable.txt').read_text()


def test_decode_finds_what_is_no_video(start, samples, truncate):
    run, clips = start('ucf101'), sorted(VIDEOS.rglob('*.avi'))
    write_clip(Path('real.mp4'))
    for path in clips:
        path.write_bytes(Path('real.mp4').read_bytes())
    truncate(clips[0])
    clips[6].write_bytes(b'<html>not found</html>')
    with wave.open(str(clips[12]), 'wb') as sound:
        sound.setparams((1, 2, 8000, 0, 'NONE', ''))
        sound.writeframes(bytes(16000))
    out = run('--decode')
    assert 'val 1: 3 of 6 clips found, 1 to 1 a class; 3 unreadable' in out
    names = [path for path, _ in samples('ucf101')[1]]
    assert names == [str(clips[i]) for i in (1, 7, 13)]


def test_a_clip_is_first_looked_for_where_the_list_says():
    names, found = ['B/v.avi', 'C/v.avi', 'C/w.avi'], ['A/v.avi', 'B/v.avi']
    places = ['B/v.avi', 'A/v.avi', 'C/w.avi']
    assert locate(names, found) == dict(zip(names, places))
