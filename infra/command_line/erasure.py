"""`plaza erasure`: prove that an erased member is gone from everywhere, in a signed report."""

import argparse
from pathlib import Path

import msgspec
import psycopg
import redis
import uvloop

from infra.command_line.progress import telling
from infra.command_line.tables import print_rows
from infra.command_line.verb import FAILED, AskedWrongly, Context, Failure, print_json
from infra.composition.operations.erasure_proof import (
    TEXTS_MAX,
    NoSuchMember,
    NotSigned,
    Signed,
    Wanted,
    check_signature,
    own_public_key,
    prove,
    texts_of,
    write_texts,
)
from infra.composition.supervision.running import find_system
from infra.ports.log import LogUnavailable

PROBLEMS = (NoSuchMember, NotSigned, LogUnavailable, psycopg.Error, redis.RedisError, OSError)


def declare(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(metavar="WHAT", required=True, dest="what")
    about = "before an erasure: what the member wrote, to be looked for afterwards"
    texts = kinds.add_parser("texts", help=about, description=about)
    texts.add_argument("member", metavar="USER", help="an id, or a user name")
    texts.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file (JSON)")
    texts.set_defaults(run=run_texts)
    about = "afterwards: search everything, and sign what was found; 1 if it is not proven"
    proof = kinds.add_parser("prove", help=about, description=about)
    proof.add_argument("member", metavar="USER", help="an id, or a user name")
    proof.add_argument("--texts", type=Path, metavar="FILE", help="as `texts` wrote it")
    proof.add_argument(
        "--text", action="append", default=[], metavar="T", help="look for this too; repeatable"
    )
    proof.add_argument(
        "--folder", action="append", default=[], type=Path, metavar="DIR",
        help="search this folder too, such as an export or a backup; repeatable",
    )  # fmt: skip
    proof.set_defaults(run=run_prove)
    about = "whether a report (`prove --json` in a file) is as it was signed, and by this system"
    check = kinds.add_parser("check", help=about, description=about)
    check.add_argument("file", metavar="FILE", type=Path)
    check.set_defaults(run=run_check)


def run_texts(context: Context) -> int:
    settings, _ = find_system(context.settings)
    file = context.arguments.out
    try:
        with telling(context) as told:
            texts = uvloop.run(
                texts_of(
                    settings,
                    context.arguments.member,
                    lambda reached, head: told("reading the log", reached, head),
                )
            )
        write_texts(file, texts)
    except FileExistsError:
        raise AskedWrongly(f"{file} is there already") from None
    except PROBLEMS as problem:
        raise Failure(str(problem)) from problem
    if context.json:
        print_json({"file": str(file), "texts": len(texts)})
    else:
        print(f"{len(texts):,} texts in {file}, readable: destroy it after the proof")
    return 0


def run_prove(context: Context) -> int:
    arguments = context.arguments
    settings, _ = find_system(context.settings)
    texts = [*arguments.text, *read_texts(arguments.texts)]
    for folder in arguments.folder:
        if not folder.is_dir():
            raise AskedWrongly(f"there is no folder {folder}")
    try:
        with telling(context) as told:
            signed = uvloop.run(
                prove(
                    settings,
                    arguments.member,
                    Wanted(texts, arguments.folder),
                    lambda what: told(what, 0, 0),
                )
            )
    except PROBLEMS as problem:
        raise Failure(str(problem)) from problem
    if context.json:
        print_json(msgspec.to_builtins(signed))
    else:
        show(signed)
    return 0 if signed.report.proven else FAILED


def read_texts(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[str])
    except (OSError, msgspec.DecodeError) as problem:
        raise AskedWrongly(f"{file} cannot be read: {problem}") from problem


def show(signed: Signed) -> None:
    report = signed.report
    print(f"member {report.member_id}, at position {report.position:,}")
    print(
        f"  erased at {report.erased_at:,}" if report.erased_at else "  NOT ERASED: no such event"
    )
    print(f"  key {'destroyed' if report.key_destroyed else 'STILL THERE'}")
    tried = report.log
    print(
        f"  {tried.sealed_texts:,} sealed texts in {tried.events:,} events; {tried.keys:,}"
        f"{'' if tried.complete else ' of the'} keys that are left open {tried.opened:,} of them"
    )
    print(
        f"  {report.texts:,} texts looked for (at most {TEXTS_MAX}), {report.too_short} too short"
    )
    rows = [
        {
            "store": one.store,
            "objects": one.objects,
            "bytes": one.bytes_read,
            "found": one.found,
            "where": ", ".join(one.where) or one.problem,
        }
        for one in (*report.searched, *report.remnants)
    ]
    columns = {"store": "searched", "objects": "objects", "bytes": "bytes", "found": "found"}
    print_rows(rows, {**columns, "where": "where"})
    print("proven" if report.proven else "NOT PROVEN")
    print(f"signed {signed.signature}\nby     {signed.public_key}")


def run_check(context: Context) -> int:
    settings, _ = find_system(context.settings)
    try:
        signed = check_signature(context.arguments.file)
        own = uvloop.run(own_public_key(settings)) == signed.public_key
    except PROBLEMS as problem:
        raise Failure(str(problem)) from problem
    if context.json:
        print_json({"signed": True, "own": own, "proven": signed.report.proven})
    else:
        print(f"signed as it is, {'by this system' if own else 'by ANOTHER system'}")
    return 0 if own else FAILED
