"""Run a page's python blocks and configs in one process (see test_docs.py).

    python run_python.py TEST_MODELS JOBS

JOBS is JSON: [[kind, where, text or path of a config], ...].
"""

import importlib.util
import json
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, '')  # the page's folder, as for `python tools/...`


def load(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train_a_step(path, models, with_data):
    """Build what a config says; its blocks must be there and get gradients."""
    import torch
    from mmengine.config import Config
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import HOOKS, DefaultScope

    from cgnl_mm.deploy.model import without_weights

    cfg = Config.fromfile(path)
    host = cfg.get('default_scope')
    make = dict(
        mmpretrain=models.images, mmaction=models.clips, mmdet=models.scenes
    ).get(host)
    if make is None:  # part of a config, which a block of the page completes
        return
    registry = import_module(f'{host}.registry')
    with DefaultScope.overwrite_default_scope(host):
        for hook in cfg.get('custom_hooks', []):
            HOOKS.build(hook)
        if with_data:
            for loader in (cfg.train_dataloader, cfg.val_dataloader):
                assert registry.DATASETS.build(loader.dataset)[0]
        model = registry.MODELS.build(without_weights(cfg.model))
        model.init_weights()
        optim = build_optim_wrapper(model, cfg.optim_wrapper)
    types = [type(module).__name__ for module in model.modules()]
    for plugin in cfg.model.backbone.get('plugins', []):
        count = sum(map(len, plugin.get('after_blocks', [[0]])))
        assert types.count(plugin['cfg']['type']) >= count, plugin
    assert torch.isfinite(model.train_step(make(model), optim)['loss'])


def main():
    models = load(sys.argv[1])
    for kind, where, what in json.loads(sys.argv[2]):
        print(f'-- {where}', flush=True)
        if kind == 'python':
            exec(compile(what, where, 'exec'), {'__name__': '__main__'})
        else:
            train_a_step(what, models, with_data=kind == 'file')


if __name__ == '__main__':
    main()
