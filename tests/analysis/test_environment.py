"""Name the code that a result comes from."""

import subprocess

from cgnl_mm.analysis.environment import commit_of


def test_commit_of_a_checkout(tmp_path):
    def git(*options):
        return subprocess.run(
            ['git', '-c', 'user.name=a', '-c', 'user.email=a@b', *options],
            cwd=tmp_path, check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    git('init')
    assert commit_of(tmp_path) == ''  # no commit yet
    (tmp_path / 'a').touch()
    git('add', 'a')
    git('commit', '-m', 'a')
    short = git('rev-parse', '--short', 'HEAD')
    assert commit_of(tmp_path) == short
    (tmp_path / 'a').write_text('changed')
    assert commit_of(tmp_path) == f'{short}+'
    # installed in a folder of somebody else's checkout
    (tmp_path / 'site-packages').mkdir()
    assert commit_of(tmp_path / 'site-packages') == ''
