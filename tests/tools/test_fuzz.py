"""Checkpoints, images and videos that somebody broke."""

import io
import pickle
import tempfile
from pathlib import Path

import pytest
import torch
from fuzzing import in_files, mutations
from hypothesis import example, given
from hypothesis import strategies as st
from miniatures import write_clip, write_jpeg

from cgnl_mm.checkpoints import find_fault
from cgnl_mm.convert import convert_checkpoint
from cgnl_mm.convert.files import read_checkpoint
from cgnl_mm.datasets.decode import check_file
from cgnl_mm.errors import SetupError
from cgnl_mm.ops.torch_versions import TORCH
from cgnl_mm.training.resume import find_latest


def checkpoint():
    buffer = io.BytesIO()
    weight = torch.arange(300.0)
    content = dict(state_dict=dict(weight=weight), meta=dict(epoch=3))
    torch.save(content, buffer)
    return buffer.getvalue()


CHECKPOINT = checkpoint()


class Payload:
    """Runs a command wherever it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (Path(self.trace),)


@in_files
@example(content=CHECKPOINT)
@given(content=mutations(CHECKPOINT))
def test_fuzz_whole_checkpoints_are_whole(content):
    """What passes for whole loads, and holds the numbers that were saved."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'epoch_3.pth')
        path.write_bytes(content)
        fault = find_fault(str(path))
        assert fault is None or fault.isprintable()
        if content == CHECKPOINT:
            assert fault is None
        if fault is None and content[:2] == b'PK':
            loaded = torch.load(path, weights_only=True)
            weight = loaded['state_dict']['weight']
            assert torch.equal(weight, torch.arange(300.0))


@pytest.mark.parametrize('cut', [False, True])
def test_looking_at_a_checkpoint_runs_nothing(cut, tmp_path):
    path, trace = tmp_path / 'epoch_1.pth', tmp_path / 'trace'
    torch.save(dict(state_dict={}, optimizer=Payload(trace)), path)
    if cut:
        path.write_bytes(path.read_bytes()[:-30])
    find_fault(str(path))
    if TORCH >= (2, 6):  # an older one unpickles what may be resumed
        assert find_latest(str(tmp_path)) is None
    assert not trace.exists()


@pytest.mark.parametrize('zipped', [True, False])
def test_converting_runs_nothing(zipped, tmp_path):
    path, trace = tmp_path / 'model_best.pth.tar', tmp_path / 'trace'
    content = dict(state_dict={}, epoch=Payload(trace))
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(SetupError, match='the safe loader refuses'):
        read_checkpoint(str(path))
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(SetupError, match='not a whole checkpoint|refuses'):
        read_checkpoint(str(path))
    assert not trace.exists()


@in_files
@given(content=mutations(CHECKPOINT))
def test_fuzz_converter_reads(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'model.pth')
        path.write_bytes(content)
        try:
            read_checkpoint(str(path))
        except SetupError as error:
            assert str(path) in str(error)


KEYS = st.one_of(
    st.sampled_from(
        [
            'module.conv1.weight',
            'layer3.5.t.weight',
            'layer3.5.z.weight',
            'layer3.5.gn.weight',
            'layer3.5.gn.bias',
            'layer3.0.conv1.weight',
            'fc.weight',
            'backbone.body.layer3.5.z.weight',
        ]
    ),
    st.text(max_size=20),
    st.integers(),
)
VALUES = st.one_of(
    st.sampled_from(
        [
            torch.zeros(()),
            torch.zeros(8, 4, 1, 1),
            torch.zeros(1024, 64, 1, 1),
            torch.zeros(7),
            torch.zeros(3, dtype=torch.int64),
        ]
    ),
    st.none(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)
STATES = st.dictionaries(KEYS, VALUES, max_size=6)


@in_files
@given(
    content=st.one_of(
        st.none(),
        STATES,
        st.builds(dict, state_dict=STATES),
        st.lists(VALUES, max_size=2),
    ),
    target=st.sampled_from(('mmpretrain', 'mmdet')),
)
def test_fuzz_converter_understands(content, target):
    """A state dict of something else is refused with its name."""
    with pytest.raises(SetupError):
        convert_checkpoint(content, target, False)


WRITERS = {'a.png': write_jpeg, 'a.mp4': write_clip}


@pytest.mark.parametrize('name', WRITERS)
@in_files
@given(data=st.data())
def test_fuzz_pictures_and_clips(name, data):
    """A broken file has a reason in one line; it ends no process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        WRITERS[name](path)
        assert check_file(str(path)) is None
        path.write_bytes(data.draw(mutations(path.read_bytes())))
        reason = check_file(str(path))
    assert reason is None or (reason and '\n' not in reason)
