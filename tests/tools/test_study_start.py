"""study_start.py: what it writes, run as a user runs it."""

import pandas as pd


def test_tool_goes_on_where_it_ended(run_tool, tmp_path):
    """A line of the csv file is not trained again."""

    def lines(*options):
        run_tool(
            'study_start.py', '--only', '^(no block|weight 1)$', '--out',
            'out', '--steps', '2', *options, cwd=tmp_path,
        )  # fmt: skip
        return pd.read_csv(tmp_path / 'out/start.csv')

    first, second = lines('--seeds', '1'), lines('--seeds', '2')
    assert len(first) == 4 and len(second) == 8
    assert second[:4].equals(first)
    assert not second.duplicated(['setting', 'task', 'seed']).any()
    assert (tmp_path / 'out/start.png').is_file()
    table = (tmp_path / 'out/start.md').read_text()
    plain = second[second.setting == 'no block']
    accuracy = plain[plain.task == 'cue'].accuracy.mean()
    assert f'| {accuracy:.1f} (' in table
