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
    changes = find_changes(then, runner.cfg.pretty_text)
    if changes:
        runner.logger.warning(
            'the run goes on with other settings than those of the checkpoint '
            '(-: then, +: now):\n' + '\n'.join(changes)
        )


def find_changes(then: str, now: str) -> list[str]:
    """Return the lines of a unified diff of two configs.

    Args:
        then (str): A config as ``Config.pretty_text`` writes it.
        now (str): Another one.

    Returns:
        list: At most 40 printable lines; the settings of the job are left out.
    """
    texts = [
        [
            line
            for line in text.split('\n')
            if line.partition(' = ')[0] not in OF_THE_JOB
        ]
        for text in (then, now)
    ]
    # the first two lines name the files
    changes = list(difflib.unified_diff(*texts, n=2, lineterm=''))[2:]
    if len(changes) > SHOWN:
        changes[SHOWN:] = [f'and {len(changes) - SHOWN} more lines']
    return [_cut(printable(line)) for line in changes]


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + '...'
