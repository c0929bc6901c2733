"""Listen to mmengine's log."""

import logging

import pytest
from mmengine.logging import MMLogger


@pytest.fixture(autouse=True, scope='session')
def quiet_log():
    """mmengine logs every initialised parameter."""
    MMLogger.get_instance('mmengine', log_level=logging.WARNING)


@pytest.fixture
def warnings_logged():
    """Collect the warnings that go to mmengine's log."""
    messages = []

    def note(record):
        if record.levelno >= logging.WARNING:
            messages.append(record.getMessage())
        return True

    logger = MMLogger.get_current_instance()
    logger.addFilter(note)
    yield messages
    logger.removeFilter(note)
