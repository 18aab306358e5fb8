"""Apache Kafka from jars: broker and controller in one process, with its data in a folder."""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.servers.java import Java, fetch_jars, find_java
from infra.servers.process import (
    Program,
    ServerFailed,
    ServerProcess,
    accepts_connections,
    end_leftovers,
    free_port,
    run_to_its_end,
    start,
)

HEAP = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def start_kafka(
    folder: Path, environ: Mapping[str, str], port: int | None = None
) -> tuple[ServerProcess, str]:
    """Start the broker that lives in `folder`; answers it and its bootstrap address.

    Raises `JavaMissing` where there is no Java ≥ 21 or no Maven.
    """
    program = kafka_program(folder, environ, port)
    return start(program), program.url


def kafka_program(folder: Path, environ: Mapping[str, str], port: int | None = None) -> Program:
    """The broker that lives in `folder`, ready to be started; formatted on first use."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    java = find_java(environ)
    jars = fetch_jars("kafka", java, environ)
    port = port or free_port()
    properties = folder / "server.properties"
    properties.write_text(_properties(folder / "data", port, free_port()))
    if not (folder / "data" / "meta.properties").exists():
        _format(java, jars, properties)
    bootstrap = f"127.0.0.1:{port}"
    return Program(
        "kafka",
        (
            *(java.program, *HEAP, "-cp", f"{jars}/*"),
            *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "kafka.Kafka", properties),
        ),
        folder,
        folder / "kafka.log",
        url=bootstrap,
        answers=lambda: accepts_connections(port) and answers(bootstrap),
        clear_up=lambda: end_leftovers(folder, "java"),
    )


def _properties(data: Path, port: int, controller_port: int) -> str:
    listeners = f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "listeners": listeners,
        "advertised.listeners": listeners,
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data),
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
        # The log is the truth and feeds whatever Kafka no longer holds.
        "log.retention.hours": "24",
        "log.retention.bytes": str(2**30),
        "log.segment.bytes": str(128 * 2**20),
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _format(java: Java, jars: Path, properties: Path) -> None:
    # One that begins with "-", which bytes from 0xf8 on do, would be taken for an option.
    random_bytes = bytes([secrets.randbelow(0xF8)]) + secrets.token_bytes(15)
    cluster_id = urlsafe_b64encode(random_bytes).decode().rstrip("=")
    done = run_to_its_end(
        [
            *(java.program, *HEAP, "-cp", f"{jars}/*", "kafka.tools.StorageTool"),
            *("format", "--standalone", "-t", cluster_id, "-c", properties),
        ]
    )
    if done.returncode != 0:
        raise ServerFailed(f"Kafka's storage could not be formatted: {done.stderr[-2000:]}")


def answers(bootstrap: str) -> bool:
    """Whether there is a broker at this address."""
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        return bool(client.list_topics(timeout=2).brokers)
    except KafkaException:
        return False
