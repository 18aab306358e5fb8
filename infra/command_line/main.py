"""`plaza`: the one command line, with a module per verb that is loaded when it is used."""

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

import structlog

from infra.command_line.verb import (
    ASKED_WRONGLY,
    FAILED,
    AskedWrongly,
    Context,
    Failure,
    print_json,
    quiet_end_of_output,
)
from infra.composition.settings import SettingsInvalid, load_settings
from infra.composition.supervision.running import AlreadyRunning, NotRunning

# Verb: its module, and what it does.
VERBS = {
    "up": ("up", "run everything on this machine"),
    "command-api": ("processes", "run the command service"),
    "query-api": ("processes", "run the query service"),
    "relay": ("processes", "run the relay from the log to Kafka"),
    "worker": ("processes", "run projections and processes"),
    "migrate": ("migrate", "make or update the tables of the log and the read models"),
    "import": ("import_", "bring follows, posts or products in from a file"),
    "demo": ("demo", "fill a running system with a lively made-up world"),
    "log": ("log", "read the event log"),
    "export": ("export", "write a range of the log to files for analysts"),
    "schema": ("schema", "the event types, and what has changed in them"),
    "backup": ("backup", "keep all that cannot be computed again"),
    "erasure": ("erasure", "prove that an erased member is gone from everywhere"),
    "restore": ("restore", "fill an empty system with a backup"),
    "replay": ("replay", "fold a range of the log into a file, away from what is live"),
    "projections": ("projections", "how far each projection has got"),
    "dead-letters": ("dead_letters", "events that a projection could not apply"),
    "checkouts": ("checkouts", "what became of checkouts, and one as a timeline"),
    "top": ("top", "what the system does at this moment, on a live screen"),
    "trace": ("trace", "the path of one request, with times"),
    "bench": ("bench", "measure, each figure beside its probe"),
    "config": ("config", "every setting with its value and where it comes from"),
    "doctor": ("doctor", "what is installed, reachable and missing"),
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong as JSON where JSON was asked for. Exit status 2 either way."""

    as_json = False

    def error(self, message: str) -> NoReturn:
        if not Parser.as_json:
            super().error(message)
        print_json({"error": message, "usage": self.format_usage().strip()})
        sys.exit(ASKED_WRONGLY)


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> NoReturn:
    """Run one verb and exit with its status: 0, 1 (it failed) or 2 (it was asked wrongly)."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Standard output is for the verb's answer alone. Processes that log as JSON say so later.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sys.exit(run(words, os.environ if environ is None else environ))


def run(words: list[str], environ: Mapping[str, str]) -> int:
    Parser.as_json = "--json" in words
    try:
        arguments = build_parser(words).parse_args(words)
        settings = load_settings(environ)
        return int(arguments.run(Context(arguments, settings, environ)))
    except (SettingsInvalid, AskedWrongly) as problem:
        return _report(str(problem), ASKED_WRONGLY)
    except (Failure, AlreadyRunning, NotRunning) as problem:
        return _report(str(problem), FAILED)
    except BrokenPipeError:
        quiet_end_of_output()
        return 0
    except KeyboardInterrupt:
        return 130


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all verbs; only the module of the one that `words` name is loaded."""
    parser = Parser(prog="plaza", description="A public square with shops in it.")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, dest="verb")
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, (module, does) in VERBS.items():
        verb = verbs.add_parser(name, help=does, description=f"plaza {name}: {does}.")
        if name == chosen:
            importlib.import_module(f"infra.command_line.{module}").declare(verb)
            accept_json(verb)
    return parser


def accept_json(parser: argparse.ArgumentParser) -> None:
    """Take `--json` here and after every verb of a verb."""
    if not any(action.dest == "json" for action in parser._actions):  # noqa: SLF001
        parser.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON"
        )
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for choice in dict.fromkeys(action.choices.values()):
                accept_json(choice)


def _report(message: str, status: int) -> int:
    if Parser.as_json:
        print_json({"error": message})
    else:
        sys.stderr.write(f"plaza: {message}\n")
    return status


if __name__ == "__main__":
    main()
