"""Name the settings in which a resumed run differs from its checkpoint."""

import difflib

from mmengine.runner import Runner

from ..errors import printable

# settings of the job, which do not change what it computes
OF_THE_JOB = ('resume', 'load_from', 'work_dir', 'launcher')
SHOWN, WIDTH = 40, 100  # lines, characters of a line


def warn_of_changes(runner: Runner, checkpoint: dict) -> None:
    """Show how a config differs from the one of a checkpoint.

    Weights that fit do not tell: another kernel, another learning rate or
    another data set resumes without an error. Nothing of the checkpoint's
    text is executed.

    Args:
        runner (Runner): The runner that resumes.
        checkpoint (dict): A checkpoint with ``meta['cfg']``, as MMEngine
            saves it. The config of another one is not compared.
    """
    then = checkpoint.get('meta', {}).get('cfg')
    if not isinstance(then, str):
        return
    texts = [
        [x for x in text.split('\n') if x.split(' = ')[0] not in OF_THE_JOB]
        for text in (then, runner.cfg.pretty_text)
    ]
    # the first two lines name the files
    changes = list(difflib.unified_diff(*texts, n=2, lineterm=''))[2:]
    if len(changes) > SHOWN:
        changes[SHOWN:] = [f'and {len(changes) - SHOWN} more lines']
    if changes:
        runner.logger.warning(
            'the run goes on with other settings than those of the checkpoint '
            '(-: then, +: now):\n'
            + '\n'.join(printable(line)[:WIDTH] for line in changes)
        )
