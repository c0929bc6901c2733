"""What the tools print and log."""

import logging

import pytest

from cgnl_mm.cli import load_config
from cgnl_mm.cli.errors import run
from cgnl_mm.errors import SetupError, hide_passwords

URL = 'https://me:s3cret@host/a.pth'


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'a.py'
    path.write_text(f'load_from = {URL!r}\n')
    return path


def test_passwords_are_not_told(config, capsys, tmp_path):
    """Nor written: a config is a part of each checkpoint."""

    def main():
        log = logging.Logger('of a tool')
        log.addHandler(logging.FileHandler(tmp_path / 'log'))
        log.warning('from %s', URL)
        print(f'Downloading: "{URL}"')
        cfg = load_config(config)
        assert cfg.load_from == URL  # what is loaded
        cfg.copy().dump(tmp_path / 'dumped.py')
        raise SetupError(f'{cfg.load_from} is gone')

    before = logging.getLogRecordFactory()
    try:
        with pytest.raises(SystemExit):
            run(main)
    finally:
        logging.setLogRecordFactory(before)
    printed = capsys.readouterr()
    written = [(tmp_path / name).read_text() for name in ('log', 'dumped.py')]
    for text in (printed.out, printed.err, *written):
        assert 'https://me:***@host/a.pth' in text


def test_ctrl_c_while_a_config_is_read_stays_one(config):
    config.write_text('raise KeyboardInterrupt')
    with pytest.raises(KeyboardInterrupt):
        load_config(config)


def test_text_that_is_not_a_password_stays():
    for text in ('a@b', 'http://host:80/a@b', "'http://a:1', 'b@c'"):
        assert hide_passwords(text) == text
    assert hide_passwords('s3://k:p@ss@h/x') == 's3://k:***@h/x'
