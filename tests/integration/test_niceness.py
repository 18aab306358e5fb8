"""The server's processes that work for one in the background are as nice as that one."""

import asyncio
import json
import os
import sys

from infra.adapters.connections import connect

PROGRAM = """
import asyncio, json, os, sys
from infra.adapters.connections import connect
from infra.adapters.pools import Pool

os.nice(10)

async def main(url):
    connection = await connect(url, "test", {"work_mem": "8MB"})
    row = await (await connection.execute(
        "SELECT pg_backend_pid(), current_setting('work_mem'),"
        " current_setting('max_parallel_maintenance_workers')"
    )).fetchone()
    pool = Pool(url, "test", 1, {})
    await pool.open()
    ((pooled,),) = await pool.rows("SELECT pg_backend_pid()")
    nice = {os.getpriority(os.PRIO_PROCESS, process) for process in (row[0], pooled)}
    print(json.dumps([*row[1:], nice == {os.nice(0)}]))
    await pool.close()
    await connection.close()

asyncio.run(main(sys.argv[1]))
"""


async def test_sessions_of_a_nice_process_are_nice(postgres_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, postgres_url),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "."},
    )
    told, _ = await process.communicate()
    assert json.loads(told) == ["8MB", "0", True]


async def test_those_of_others_are_left_as_they_are(postgres_url: str) -> None:
    connection = await connect(postgres_url, "test")
    server = connection.info.backend_pid
    assert os.getpriority(os.PRIO_PROCESS, server) == os.nice(0)
    await connection.close()
