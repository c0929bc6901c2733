import functools
import pickle
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import scheduler as schedulers
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader

from cgnl_mm import compat
from cgnl_mm.compat import safe_load

compat.apply()


def message_hub():
    hub = MessageHub.get_instance('test_safe_load')
    for value in (1.0, 3.0):
        hub.update_scalar('train/loss', value)
    hub.update_scalar('train/count', np.int64(7))
    hub.update_info('eta', np.float64(2.5))
    hub.update_info('seen', np.arange(3, dtype=np.int32))
    return hub.state_dict()


def test_message_hub_round_trip(tmp_path):
    path = tmp_path / 'hub.pth'
    torch.save(message_hub(), path)
    state = torch.load(path)
    loss = state['log_scalars']['train/loss']
    assert isinstance(loss, HistoryBuffer)
    assert loss.mean() == 2.0 and loss.statistics('max') == 3.0
    assert state['runtime_info']['eta'] == 2.5
    assert state['runtime_info']['seen'].tolist() == [0, 1, 2]


SCHEDULERS = dict(
    ConstantLR={},
    CosineAnnealingLR=dict(T_max=5),
    CosineRestartLR=dict(periods=[9], eta_min=0),
    ExponentialLR=dict(gamma=0.9),
    LinearLR={},
    MultiStepLR=dict(milestones=[2]),
    OneCycleLR=dict(eta_max=1.0, total_steps=9),
    PolyLR={},
    ReduceOnPlateauLR=dict(monitor='loss'),
    StepLR=dict(step_size=2),
)


@pytest.mark.parametrize('name', SCHEDULERS)
def test_schedulers_round_trip(tmp_path, name):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scheduler = getattr(schedulers, name)(optimizer, **SCHEDULERS[name])
    optimizer.step()
    scheduler.step(*([{'loss': 1.0}] if 'Plateau' in name else []))
    state = scheduler.state_dict()
    torch.save(state, tmp_path / 'state.pth')
    assert torch.load(tmp_path / 'state.pth') == state


restricted = pytest.mark.skipif(
    safe_load.not_needed() is not None,
    reason='torch < 2.6 does not restrict torch.load',
)


@restricted
@pytest.mark.parametrize('names', ['numpy.core', 'numpy._core'])
def test_names_of_either_numpy(tmp_path, names):
    """A checkpoint written with numpy 1 loads with 2, and the reverse."""
    path = tmp_path / 'array.pth'
    # protocol 2, which torch.save uses, has module names in plain text
    data = pickle.dumps([np.arange(4.0), np.float64(3)], 2)
    written = b'numpy._core' if b'numpy._core' in data else b'numpy.core'
    data = data.replace(written, names.encode())
    torch.save([np.arange(4.0), np.float64(3)], path)
    with zipfile.ZipFile(path) as old:
        files = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, 'w') as new:
        for name, content in files.items():
            new.writestr(name, data if name.endswith('data.pkl') else content)
    array, scalar = torch.load(path, weights_only=True)
    assert array.tolist() == [0, 1, 2, 3] and scalar == 3


class Call:
    """Call a function where it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'content, refused',
    [
        (Call(getattr, HistoryBuffer, '__init__'), 'getattr'),
        (Call(getattr, HistoryBuffer, 'register_statistics'), 'getattr'),
        (Call(getattr, np.ndarray, 'tofile'), 'getattr'),
        (Call(OneCycleParamScheduler), None),  # a name of the list
        (MessageHub, 'MessageHub'),
    ],
)
def test_everything_else_stays_shut(tmp_path, content, refused):
    path = tmp_path / 'evil.pth'
    torch.save(content, path)
    with pytest.raises((TypeError, pickle.UnpicklingError), match=refused):
        torch.load(path, weights_only=True)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder, and its URL."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = functools.partial(
        SimpleHTTPRequestHandler, directory=str(folder)
    )
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


@restricted
@pytest.mark.parametrize('place', ['file', 'url'])
def test_mmengine_loads_safely(served, tmp_path, place):
    """It takes no name off the list, as OneDL's does, nor falls back."""
    folder, url = served
    torch.save(message_hub(), folder / 'good.pth')
    torch.save(Call((tmp_path / 'touched').touch), folder / 'bad.pth')
    root = folder if place == 'file' else url
    for _ in range(2):
        state = CheckpointLoader.load_checkpoint(f'{root}/good.pth', 'cpu')
    assert state['runtime_info']['eta'] == 2.5
    with pytest.raises(pickle.UnpicklingError):
        CheckpointLoader.load_checkpoint(f'{root}/bad.pth', 'cpu')
    assert not (tmp_path / 'touched').exists()
