"""Log records of ``cgnl_mm`` in the log of MMEngine's runner."""

import logging

from mmengine.logging import MMLogger, print_log


class ForwardingHandler(logging.Handler):
    """Hand records to the logger of the current runner, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        # The logger named 'mmengine' is the default one; a runner names its
        # logger after its experiment.
        if MMLogger.get_current_instance().instance_name != 'mmengine':
            print_log(record.getMessage(), 'current', record.levelno)


def forward_to_mmengine() -> None:
    """Forward the records of the logger 'cgnl_mm'."""
    logger = logging.getLogger('cgnl_mm')
    logger.addHandler(ForwardingHandler())
    logger.setLevel(logging.INFO)
