"""The Triton kernels in the interpreter, compiled, and beside PyTorch.

The interpreter has to be chosen before Triton is imported, which other tests
may have done: a file of tests runs itself as a script in a process of its own,
which reports each of its cases. They run on a GPU as well where there is one.
"""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

from cgnl_mm.ops import passes_triton

DTYPES = {
    'fp32': torch.float32,
    'bf16': torch.bfloat16,
    'fp16': torch.float16,
}
VERSION = (0, 0)
if passes_triton.triton is not None:
    VERSION = tuple(map(int, passes_triton.triton.__version__.split('.')[:2]))
needs_triton = pytest.mark.skipif(VERSION < (3, 0), reason='needs Triton 3')
# seen to fail with 3.6: numpy converts no array of one entry any more
needs_interpreter = pytest.mark.skipif(
    VERSION < (3, 0)
    or VERSION < (3, 8)
    and tuple(map(int, np.__version__.split('.')[:2])) >= (2, 4),
    reason='needs Triton 3.8, or 3.0 and numpy before 2.4',
)
# seen to fail with 3.2, whose ASTSource takes its arguments otherwise
needs_compiler = pytest.mark.skipif(
    VERSION < (3, 3) or os.environ.get('TRITON_INTERPRET') == '1',
    reason='needs Triton 3.3, not interpreting',
)
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a GPU'
)


def to(dtype, values):
    """Tensors in this type, other arguments as they are."""
    return [v.to(dtype) if torch.is_tensor(v) else v for v in values]


def as_list(result):
    return [result] if torch.is_tensor(result) else list(result)


def check_close(name, fast, plain, truth, scale):
    """No more than twice as far from the truth as PyTorch, but for a trifle.

    ``scale`` is the size of what was added up: 2^-22 of it are two roundings.
    """
    assert fast.shape == plain.shape, (name, fast.shape)
    assert fast.dtype == plain.dtype, (name, fast.dtype)
    error = (fast.double() - truth).abs().max()
    allowed = 2 * (plain.double() - truth).abs().max() + 2**-22 * scale
    if fast.dtype == torch.bfloat16 and not fast.is_cuda:
        # the interpreter cuts off where a GPU rounds
        allowed += torch.finfo(fast.dtype).eps * truth.abs().max()
    assert error <= allowed, (name, error.item(), allowed.item())


def report(cases, device):
    """What failed, by name; '' where nothing did."""
    # memory that nobody wrote is NaN
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    outcomes = {}
    for name, check in cases.items():
        torch.manual_seed(0)
        try:
            check(device)
            outcomes[name] = ''
        except Exception:
            outcomes[name] = traceback.format_exc()
    return outcomes


def check_on_gpu(cases):
    failed = {name: e for name, e in report(cases, 'cuda').items() if e}
    assert not failed, '\n'.join(f'{n}: {e}' for n, e in failed.items())


def interpret(script, folder):
    """The report of a file of tests from Triton's interpreter."""
    path, tools = Path(folder) / 'outcomes.json', Path(__file__).parent
    places = os.pathsep.join(map(str, (tools.parents[1], tools)))
    subprocess.run(
        [sys.executable, script, str(path)],
        env={**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': places},
        check=True,
    )
    return json.loads(path.read_text())


def write_report(cases):
    """What the script does: report into the file of its argument."""
    Path(sys.argv[1]).write_text(json.dumps(report(cases, 'cpu')))


def compile_launches(module, capability, monkeypatch, folder):
    """Let the launches of ``module`` compile; the set their names go into."""
    pytest.importorskip('triton.backends.nvidia')
    monkeypatch.setenv('TRITON_CACHE_DIR', str(folder))
    seen = set()

    def launch(kernel, programs, *args, **constants):
        assert 0 < programs < 2**31
        seen.add(kernel.__name__)
        compile_launch(kernel, args, constants, capability)

    monkeypatch.setattr(module, 'launch', launch)
    return seen


def compile_launch(kernel, args, constants, capability):
    """Compile as a launch would, within a small GPU's shared memory."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {dtype: f'*{name}' for name, dtype in DTYPES.items()}
    options = {
        name: constants.pop(name)
        for name in list(constants)
        if name not in kernel.arg_names
    }
    values = dict(zip(kernel.arg_names, args))
    signature, divisible = {}, {}
    for index, (name, value) in enumerate(values.items()):
        # Triton specialises on 1 and on multiples of 16
        if torch.is_tensor(value):
            signature[name] = types[value.dtype]
        elif isinstance(value, float):
            signature[name] = 'fp32'
            continue
        elif value is None or value == 1:
            constants[name] = value
            continue
        else:
            signature[name] = 'i32' if value < 2**31 else 'i64'
        if torch.is_tensor(value) or value % 16 == 0:
            divisible[index,] = [['tt.divisibility', 16]]
    signature.update(dict.fromkeys(constants, 'constexpr'))
    signature = {name: signature[name] for name in kernel.arg_names}
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, divisible),
        target=GPUTarget('cuda', capability, 32),
        options=options,
    )
    assert compiled.asm['cubin']
    # the least of all GPUs since Ampere (8.6, 8.9 and 12.0)
    assert compiled.metadata.shared <= 99 * 1024, kernel.__name__
