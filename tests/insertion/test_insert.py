"""Insert blocks into networks that know nothing of OpenMMLab."""

import copy
import pickle
import textwrap

import pytest
import torch
from torch import nn

from cgnl_mm import CGNL1d, CGNL2d, insert_after


class Unit(nn.Module):
    """Run one convolution, under a name of its own."""

    def __init__(self, cin, cout):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, padding=1)

    def forward(self, x):
        return self.conv(x).relu()


class Net(nn.Module):
    """Hold a stage, a list of modules, a lone module and a container."""

    def __init__(self):
        super().__init__()
        self.stem = Unit(3, 16)
        self.stage = nn.Sequential(Unit(16, 16), Unit(16, 16), Unit(16, 16))
        self.list = nn.ModuleList([Unit(16, 16), Unit(16, 16)])
        self.unused = Unit(16, 16)

    def forward(self, x):
        x = self.stage(self.stem(x))
        for module in self.list:
            x = module(x)
        return x


KEYS = {
    'stage.1': 'stage.cgnl_1',
    'stage.2': 'stage.cgnl_2',
    'stage': 'stage.cgnl',
    'list.0': 'list.0.cgnl',
    'stem': 'stem.cgnl',
}
each_place = pytest.mark.parametrize('place', KEYS)
# A child of a container that is called, and a child with a forward hook.
both_forms = pytest.mark.parametrize('place', ['stage.1', 'list.0'])


def block(**settings):
    """Make a block that does something."""
    made = CGNL2d(16, groups=2, norm_weight=1.0, init_std=0.3, **settings)
    nn.init.normal_(made.norm.bias)
    return made


@pytest.fixture
def x():
    return torch.randn(2, 3, 6, 5)


def by_hand(net, place, inserted, x):
    """Run the network, and the block where it belongs."""
    for path in ('stem', 'stage.0', 'stage.1', 'stage.2', 'list.0', 'list.1'):
        x = net.get_submodule(path)(x)
        if path == place or (path, place) == ('stage.2', 'stage'):
            x = inserted(x)
    return x


@each_place
def test_block_transforms_the_output_and_no_key_moves(place, x):
    plain = Net()
    net = copy.deepcopy(plain)
    inserted = block()
    expected = by_hand(plain, place, inserted, x)

    assert insert_after(net, place, inserted) is net
    torch.testing.assert_close(net(x), expected, rtol=0, atol=0)
    assert not torch.equal(net(x), plain(x))

    keys = [k for k in net.state_dict() if k not in plain.state_dict()]
    assert keys == [f'{KEYS[place]}.{k}' for k in inserted.state_dict()]
    missing = net.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert missing.missing_keys == keys


def through_state_dict(net, place, x):
    other = insert_after(Net(), place, block())
    other.load_state_dict(net.state_dict())
    return other


def through_compile(net, place, x):
    torch._dynamo.reset()
    return torch.compile(net, fullgraph=True, backend='aot_eager')


def through_export(net, place, x):
    if not hasattr(torch.export, 'Dim'):
        pytest.skip('torch < 2.2 exports no open batch size')
    shapes = dict(x={0: torch.export.Dim('batch')})
    return torch.export.export(net, (x,), dynamic_shapes=shapes).module()


def through_fx(net, place, x):
    """torchvision's feature extractors are built on this."""

    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, module, name):
            return isinstance(module, (CGNL2d, nn.Conv2d))

    return torch.fx.GraphModule(net, Tracer().trace(net))


SURVIVE = {
    'copy': lambda net, place, x: copy.deepcopy(net),
    'state': through_state_dict,
    'pickle': lambda net, place, x: pickle.loads(pickle.dumps(net)),
    'compile': through_compile,
    'jit': lambda net, place, x: torch.jit.trace(net, x[:1]),
    'export': through_export,
    'fx': through_fx,
}


@pytest.mark.parametrize('survive', SURVIVE)
@both_forms
@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_survives(place, survive, x):
    net = insert_after(Net(), place, block()).eval()
    with torch.no_grad():
        expected = net(x)
        survivor = SURVIVE[survive](net, place, x)
        torch.testing.assert_close(survivor(x), expected)


@both_forms
def test_a_block_inserted_after_compiling_is_seen(place, x):
    net = Net().eval()
    compiled = torch.compile(net, backend='eager')
    with torch.no_grad():
        before = compiled(x)
        insert_after(net, place, block())
        assert torch.equal(compiled(x), net(x))
        assert not torch.equal(compiled(x), before)
    with pytest.raises(ValueError, match='the network has _orig_mod'):
        insert_after(compiled, 'stage.0', block())


@both_forms
def test_copy_calls_its_own_block(place, x):
    """So does every replica of DataParallel, which is a copy, too."""
    net = insert_after(Net(), place, block())
    before = net(x)
    twin = copy.deepcopy(net)
    nn.init.zeros_(twin.get_submodule(KEYS[place]).norm.weight)
    nn.init.zeros_(twin.get_submodule(KEYS[place]).norm.bias)
    assert torch.equal(net(x), before)
    assert not torch.equal(twin(x), before)


def test_distributed_data_parallel_trains_the_block(python):
    """In a process of its own: a group stays for the life of one."""
    code = """
        import torch
        import torch.distributed as dist
        from torch import nn
        from cgnl_mm import CGNL2d, insert_after

        dist.init_process_group(
            'gloo', store=dist.HashStore(), rank=0, world_size=1)
        net = nn.Module()
        net.conv = nn.Conv2d(3, 8, 3)
        net.forward = lambda x: net.conv(x)
        insert_after(net, 'conv', CGNL2d(8, groups=2))
        parallel = nn.parallel.DistributedDataParallel(net)
        parallel(torch.randn(2, 3, 6, 6)).square().sum().backward()
        assert net.conv.cgnl.norm.weight.grad.abs().max() > 0
        dist.destroy_process_group()
    """
    python('-c', textwrap.dedent(code))


@both_forms
def test_second_block_follows_the_first(place, x):
    net, first, second = Net(), block(), block()
    expected = by_hand(net, place, nn.Sequential(first, second), x)
    insert_after(net, place, first)
    insert_after(net, place, second, name='second')
    torch.testing.assert_close(net(x), expected, rtol=0, atol=0)


def test_hooks_of_others_see_what_the_next_module_gets(x):
    net = Net()
    seen = []
    net.list[0].register_forward_hook(lambda *args: seen.append(args[2]))
    net.list[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    insert_after(net, 'list.0', block())
    seen.clear()  # of the trial run
    net(x)
    assert seen[0] is seen[1]


class Disordered(nn.Module):
    """Run the modules in another order than that of their registration."""

    def __init__(self):
        super().__init__()
        self.out = nn.Conv1d(16, 8, 1)
        self.wide = nn.Conv1d(3, 16, 1)

    def forward(self, x):
        return self.out(self.wide(x))


def test_disordered_network():
    net = Disordered()
    example = torch.randn(2, 3, 9)
    insert_after(net, '-1', CGNL1d(16, 2), example=example)
    assert net(example).shape == (2, 8, 9)


def test_block_takes_the_mode_of_its_place(x):
    net = Net().eval()
    insert_after(net, 'stage.0', block(norm_cfg=dict(type='BN')))
    assert not net.stage.cgnl_0.norm.training


TAKEN = "give another one by 'name'"


@pytest.mark.parametrize(
    'path, name, message',
    [
        ('stage.3', None, "did you mean stage.2 .*'stage' has 0, 1, 2"),
        ('stag.1', None, 'did you mean stage.1'),
        ('nothing', None, 'the network has stem, stage, list, unused'),
        ('', None, "no module ''"),
        ('stage.*', None, 'must name one module'),
        ('list', None, 'is a ModuleList, whose children only its owner calls'),
        ('unused', None, "'unused' is not called"),
        ('stage.2', None, TAKEN),
        ('list.1', None, TAKEN),
        ('list.0', 'forward', TAKEN),
    ],
)
def test_no_such_place_or_name(path, name, message):
    net = insert_after(Net(), 'stage.2', block())
    insert_after(net, 'list.1', block())
    with pytest.raises(ValueError, match=message):
        insert_after(net, path, block(), name)


@pytest.mark.parametrize(
    'place, wrong, message',
    [
        ('stage.1', CGNL2d(32), r"behind 'stage.1', which returns \(2, 16, 6"),
        ('list.0', CGNL1d(16), r'CGNL1d expects \(B, 16, W\)'),
        ('stage', nn.Conv2d(16, 8, 1), 'a block keeps the shape'),
    ],
)
def test_what_does_not_fit(place, wrong, message, x):
    net = Net()
    keys = list(net.state_dict())
    with pytest.raises(ValueError, match=message):
        insert_after(net, place, wrong, example=x)
    assert list(net.state_dict()) == keys
    assert net.training and wrong.training
    assert not any(module._forward_hooks for module in net.modules())


class Frozen(Net):
    """Freeze the stem."""

    def train(self, mode=True):
        super().train(mode)
        self.stem.requires_grad_(False)
        self.list.eval()
        return self


def test_frozen_places():
    """A refused block is taken out again."""
    net = Frozen()
    before = {k: p.requires_grad for k, p in net.named_parameters()}
    with pytest.raises(ValueError, match='Frozen freezes the block'):
        insert_after(net, 'stem', block())
    after = {k: p.requires_grad for k, p in net.named_parameters()}
    assert after == before and net.list.training
    insert_after(net, 'stem', block(), allow_frozen=True)
    frozen = [p for p in net.parameters() if not p.requires_grad]
    assert len(frozen) == len(list(net.stem.cgnl.parameters()))


def test_a_trial_run_leaves_no_trace():
    net = Net()
    net.stage[0].conv.eval()
    fitting = block(norm_cfg=dict(type='BN'))
    drawn = torch.get_rng_state()
    insert_after(net, 'stage.1', fitting)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not fitting.norm.running_mean.any()
    assert net.training and not net.stage[0].conv.training


def test_a_network_that_takes_nothing_usual():
    net = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (16, 5, 5)))
    with pytest.raises(ValueError, match='no trial run reached .*`example`'):
        insert_after(net, '1', CGNL2d(16))
    insert_after(net, '1', CGNL2d(16), example=torch.randn(2, 400))
    assert hasattr(net, 'cgnl_1')
