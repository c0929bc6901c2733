"""Which checkpoint a resumed run takes, and whose files it touches."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook
from runs import Net, train_here

import cgnl_mm  # noqa: F401
from cgnl_mm.errors import ConfigError, DiskFullError, SetupError
from cgnl_mm.training import PreemptionHook, resume
from cgnl_mm.training.checkpoint import save_whole
from cgnl_mm.training.resume import find_latest
from cgnl_mm.training.start import LOCK


class Growing(BaseMetric):
    """Each evaluation is the best one."""

    score = 0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        Growing.score += 1
        return dict(score=Growing.score)


def train(folder, epochs, resume=None, hooks=(), **checkpoint):
    hook = dict(type='AtomicCheckpointHook', interval=1, **checkpoint)
    hook.update(save_best='score', rule='greater')
    return train_here(
        Net(), folder, list(torch.randn(4, 1)), hooks, epochs, resume,
        [Growing()], default_hooks=dict(checkpoint=hook),
    )  # fmt: skip


EPOCHS = [f'epoch_{number}.pth' for number in range(1, 5)]


def names(folder):
    return {path.name for path in folder.glob('*.pth')}


def outdate(path, *files):
    """As if the job had been killed before it removed them."""
    checkpoint = torch.load(path)
    checkpoint['outdated_ckpts'] = list(files)
    torch.save(checkpoint, path)


def age(path, seconds):
    """Make a file older, or newer, than the clock."""
    now = path.stat().st_mtime
    os.utime(path, (now - seconds, now - seconds))


@pytest.fixture
def two(tmp_path):
    """Folder of a run of two epochs."""
    folder = tmp_path / 'one'
    train(folder, 2)
    assert names(folder) == {*EPOCHS[:2], 'best_score_epoch_2.pth'}
    return folder


@pytest.mark.parametrize('seconds, left', [(0, set()), (60, {'epoch_1.pth'})])
def test_what_the_killed_job_left_is_removed(two, seconds, left):
    """Not if it is newer: a later run has saved it, in the same folder."""
    outdate(two / 'epoch_2.pth', 'epoch_1.pth')
    age(two / 'epoch_1.pth', -seconds)
    train(two, 3, two / 'epoch_2.pth')
    assert names(two) == {*EPOCHS[1:3], 'best_score_epoch_3.pth', *left}


@pytest.mark.parametrize('max_keep_ckpts', [-1, 1])
def test_files_of_two_runs_stay_theirs(two, tmp_path, max_keep_ckpts):
    """A run that goes on from another's, where a third one has been."""
    # the same names, older and newer
    third = tmp_path / 'third'
    shutil.copytree(two, third)
    for name in names(third):
        (third / name).write_text('of the third')
        age(third / name, 1000)
    outdate(two / 'epoch_2.pth', 'epoch_1.pth')
    kept = {name: (two / name).read_bytes() for name in names(two)}
    train(third, 3, two / 'epoch_2.pth', max_keep_ckpts=max_keep_ckpts)
    assert {name: (two / name).read_bytes() for name in names(two)} == kept
    assert names(third) == {*kept, 'epoch_3.pth', 'best_score_epoch_3.pth'}
    for name in kept:
        assert (third / name).read_text() == 'of the third'


def test_second_checkpoint_hook_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='has 2 hooks that save checkpoin'):
        train(tmp_path, 1, hooks=[CheckpointHook(interval=1)])


def test_what_a_killed_job_left_goes_when_it_is_superseded(two):
    victim = two / 'epoch_1.pth'
    # whole or not, it is older than the checkpoint that the run goes on from
    shutil.copy(victim, two / 'preempted.pth')
    age(two / 'preempted.pth', 60)
    for name in ('best_score_epoch_2.pth.part', 'preempted.pth.part'):
        (two / name).write_text('half')
    (two / 'iter_7.pth.part').symlink_to(victim)
    (two / 'epoch_3.pth.part').mkdir()
    (two / 'epoch_3.pth.part' / 'shard').touch()
    (two / 'film.part').touch()  # of somebody else
    train(two, 3, True, [PreemptionHook()])
    assert names(two) == {*EPOCHS[:3], 'best_score_epoch_3.pth'}
    assert [path.name for path in two.glob('*.part')] == ['film.part']


def test_lock_that_is_a_link_is_not_followed(tmp_path, capsys):
    victim = tmp_path / 'victim'
    victim.write_text('whole')
    (tmp_path / LOCK).symlink_to(victim)
    train(tmp_path, 1)
    assert f'{LOCK} cannot be locked' in capsys.readouterr().out
    assert victim.read_text() == 'whole'


@pytest.mark.parametrize('link', [os.symlink, os.link])
def test_copied_run_replaces_its_own_files_alone(two, tmp_path, link):
    """The copy has links, and a folder where a checkpoint is to go."""
    copy = tmp_path / 'copy'
    shutil.copytree(two, copy)
    kept = {path.name: path.read_bytes() for path in two.glob('*.pth')}
    named = (two / 'last_checkpoint').read_text()
    (copy / 'last_checkpoint').unlink()
    link(two / 'last_checkpoint', copy / 'last_checkpoint')
    (copy / EPOCHS[2]).mkdir()
    (copy / EPOCHS[2] / 'notes').write_text('of somebody')
    train(copy, 3, copy / EPOCHS[1])
    assert names(copy) == {*EPOCHS[:3], 'best_score_epoch_3.pth'}
    (aside,) = copy.glob('epoch_3.pth.*')
    assert (aside / 'notes').read_text() == 'of somebody'
    assert (copy / 'last_checkpoint').read_text() == str(copy / EPOCHS[2])
    assert (two / 'last_checkpoint').read_text() == named
    assert {path.name: path.read_bytes() for path in two.glob('*.pth')} == kept


def test_config_in_a_checkpoint_is_not_executed(two):
    """MMEngine looks into it for what its ancestor wrote there."""
    path, trace = two / EPOCHS[1], two / 'trace'
    checkpoint = torch.load(path)
    checkpoint['meta']['config'] = f'open({str(trace)!r}, "w")'
    torch.save(checkpoint, path)
    train(two, 3, path)
    assert (two / EPOCHS[2]).exists() and not trace.exists()


def test_pipe_in_the_place_of_the_note_gives_way(tmp_path):
    """Whoever writes to it would wait for a reader for ever."""
    os.mkfifo(tmp_path / 'last_checkpoint')
    train(tmp_path, 1)
    named = (tmp_path / 'last_checkpoint').read_text()
    assert named == str(tmp_path / EPOCHS[0])


def save(path, iteration=1, time='20260101_000000'):
    """Write a checkpoint that a run could go on from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = dict(iter=iteration, time=time)
    torch.save(dict(meta=meta, optimizer={}), path)
    return str(path)


def note(folder, path):
    (folder / 'last_checkpoint').write_text(str(path))


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def a_folder_in_place(path):
    path.unlink()
    path.mkdir()


def a_pipe_in_place(path):
    path.unlink()
    os.mkfifo(path)


def test_saved_elsewhere_with_a_preempted_one_here(tmp_path):
    """CheckpointHook(out_dir=...) wrote what the note names."""
    run, out = tmp_path / 'run', tmp_path / 'out/run'
    save(run / 'preempted.pth', 25)
    third = save(out / 'epoch_3.pth', 30)
    fourth = save(out / 'epoch_4.pth', 40)
    note(run, fourth)
    assert find_latest(str(run)) == fourth
    # damaged: the whole one that is furthest, not the newest file
    save(out / 'epoch_2.pth', 20)
    cut(out / 'epoch_4.pth')
    assert find_latest(str(run)) == third


def test_copied_run_takes_its_own(tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    named = save(one / 'epoch_1.pth')
    note(one, named)
    shutil.copytree(one, two)
    assert find_latest(str(two)) == str(two / 'epoch_1.pth')
    # nor does it take the original's where its own is damaged
    cut(two / 'epoch_1.pth')
    assert find_latest(str(two)) is None


@pytest.mark.parametrize(
    'damage, reason',
    [
        (cut, 'cut off'),
        # as of a job that was killed between opening and writing it
        (lambda path: path.write_text(''), 'empty'),
        (Path.unlink, 'missing'),
        (a_folder_in_place, 'an empty folder'),
        (a_pipe_in_place, 'no regular file'),
        (lambda path: torch.save({}, path), 'not the checkpoint of a train'),
    ],
)
def test_damaged_one_is_named(tmp_path, monkeypatch, damage, reason):
    """last_checkpoint names it where it was before the run was moved."""
    third = save(tmp_path / 'epoch_3.pth', 30)
    save(tmp_path / 'epoch_4.pth', 40)
    note(tmp_path, '/nowhere/run/epoch_4.pth')
    damage(tmp_path / 'epoch_4.pth')
    said = []
    monkeypatch.setattr(resume, 'print_log', lambda *args: said.append(args))
    assert find_latest(str(tmp_path)) == third
    ((text, *_),) = said
    assert text.startswith(f'passed over {tmp_path}/epoch_4.pth: {reason}')
    # one process of several says it
    monkeypatch.setenv('RANK', '1')
    assert (find_latest(str(tmp_path)), len(said)) == (third, 1)


def test_moved_folder_of_deepspeed(tmp_path):
    run = tmp_path / 'run'
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        save(run / name / 'mp_rank_00_model_states.pt')
    note(run, '/nowhere/run/epoch_1.pth')
    assert find_latest(str(run)) == str(run / 'epoch_1.pth')
    (run / 'last_checkpoint').unlink()
    with pytest.raises(SetupError, match='epoch_1.pth is the folder of a sh'):
        find_latest(str(run))


NOTES = dict(
    missing=lambda path: None,
    empty=Path.touch,
    folder=Path.mkdir,
    undecodable=lambda path: path.write_bytes(b'\xff\xfe'),
    slash=lambda path: path.write_text('/'),
    pipe=os.mkfifo,
    strange=lambda path: path.write_text(f'{path.parent}/pretrained.pth'),
)


@pytest.mark.parametrize('kind', NOTES)
def test_without_a_readable_note_the_furthest_counts(tmp_path, kind):
    assert find_latest(str(tmp_path)) is None
    NOTES[kind](tmp_path / 'last_checkpoint')
    # the order of the files' times and of their names is another one
    second = save(tmp_path / 'epoch_2.pth', 20, '20260101_000002')
    tenth = save(tmp_path / 'epoch_10.pth', 100, '20260101_000010')
    age(tmp_path / 'epoch_10.pth', 60)
    save(tmp_path / 'epoch_9.pth', 90)
    save(tmp_path / 'best_score_epoch_11.pth', 110)
    torch.save(dict(state_dict={}), tmp_path / 'pretrained.pth')
    published = dict(meta=dict(iter=120), state_dict={})
    torch.save(published, tmp_path / 'epoch_12.pth')
    os.mkfifo(tmp_path / 'epoch_13.pth')
    assert find_latest(str(tmp_path)) == tenth
    cut(tmp_path / 'epoch_10.pth')
    a_folder_in_place(tmp_path / 'epoch_9.pth')
    assert find_latest(str(tmp_path)) == second


def test_without_a_note_two_runs_cannot_be_told_apart(tmp_path):
    """The second one has begun again at epoch 1, in the same folder."""
    save(tmp_path / 'epoch_4.pth', 40, '20260101_000000')
    save(tmp_path / 'epoch_2.pth', 20, '20260102_000000')
    with pytest.raises(SetupError, match='epoch_4.*epoch_2.*--resume PATH'):
        find_latest(str(tmp_path))
    note(tmp_path, tmp_path / 'epoch_2.pth')
    assert find_latest(str(tmp_path)).endswith('epoch_2.pth')


def test_hook_finds_it_for_any_launcher(two):
    """The host's own script knows resume=True alone."""
    (two / 'last_checkpoint').unlink()
    cut(two / 'epoch_2.pth')
    runner = train(two, 2, resume=True)
    assert runner._load_from == str(two / 'epoch_1.pth')


class Saving:
    """A runner that writes as MMEngine's backend does, at times too much."""

    work_dir = ''

    def call_hook(self, name):
        pass

    def save_checkpoint(self, out_dir, filename, device=os.devnull):
        Path(out_dir, filename).write_text('new')
        Path(device).write_text('more')


def test_full_disk_leaves_the_file_of_that_name(tmp_path):
    path, victim = tmp_path / 'preempted.pth', tmp_path / 'victim'
    for file in (path, victim):
        file.write_text('whole')
    # a link is not followed
    path.with_name('preempted.pth.part').symlink_to(victim)
    with pytest.raises(DiskFullError, match='preempted.pth could not'):
        save_whole(Saving(), str(tmp_path), path.name, device='/dev/full')
    assert path.read_text() == victim.read_text() == 'whole'
    assert sorted(tmp_path.iterdir()) == [path, victim]
    save_whole(Saving(), str(tmp_path), path.name)
    assert path.read_text() == 'new'
