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
    wide = lines('--seeds', '1', '--channels', '32')
    assert [len(first), len(second), len(wide)] == [4, 8, 12]
    assert second[:4].equals(first) and wide[:8].equals(second)
    key = ['channels', 'setting', 'task', 'seed']
    assert not wide.duplicated(key).any()
    # another width is another network
    both = wide[wide.seed == 0].pivot(index=key[1:3], columns='channels')
    assert not both['held out', 64].equals(both['held out', 32])
    assert (tmp_path / 'out/start.png').is_file()
    table = (tmp_path / 'out/start.md').read_text()
    plain = second[second.setting == 'no block']
    accuracy = plain[plain.task == 'cue'].accuracy.mean()
    assert f'| {accuracy:.1f} (' in table
