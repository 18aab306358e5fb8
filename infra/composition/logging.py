"""Log lines: one JSON object each, on standard error."""

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer


def configure_logging(process: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's lines to standard error, or a stream, as JSON.

    `process` names the kind of process in every line.
    """
    least = getattr(logging, level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Local variables hold what people wrote, and passwords.
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
    ]

    def name_process(_logger: Any, _method: str, line: Any) -> Any:
        line["process"] = process
        return line

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                name_process,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(least)
    # These tell of every connection and statement, also at levels that we want from ourselves.
    for name in ("uvicorn", "uvicorn.error", "asyncio", "psycopg", "faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(max(least, logging.WARNING))
    # It tells of every request that fails; whoever asked says what that means.
    logging.getLogger("opensearch").setLevel(logging.ERROR)
