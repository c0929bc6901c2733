"""What ``cgnl_mm.ops``, which knows no MMEngine, logs: into MMEngine's log."""

import logging

from mmengine.logging import MMLogger, print_log


class ForwardingHandler(logging.Handler):
    """Hands records to the logger of the current runner, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        # 'mmengine' is the default one, which prints; a runner's is named
        # after its experiment
        if MMLogger._instance_dict.keys() - {'mmengine'}:
            print_log(record.getMessage(), 'current', record.levelno)


def forward_to_mmengine() -> None:
    """Forward the records of the logger 'cgnl_mm'; idempotent."""
    logger = logging.getLogger('cgnl_mm')
    if not any(isinstance(h, ForwardingHandler) for h in logger.handlers):
        logger.addHandler(ForwardingHandler())
        logger.setLevel(logging.INFO)
