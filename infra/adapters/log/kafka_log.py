"""Kafka, written to by confluent-kafka: the topics that carry frames, and how far each was read."""

import asyncio
from collections.abc import Sequence

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.formats.codec import FrameLines, encode_frame
from infra.ports.frames import (
    COMMERCE_PARTITIONS,
    PARTITIONS_PER_HALF,
    SOCIAL_PARTITIONS,
    BrokerUnavailable,
)

SOCIAL_TOPIC = "plaza.social"
COMMERCE_TOPIC = "plaza.commerce"
TOPICS = (SOCIAL_TOPIC, COMMERCE_TOPIC)
DELIVERY_SECONDS = 20
ADMIN_SECONDS = 10.0
RETENTION_MS = 7 * 24 * 3600 * 1000


def topic_of(partition: int) -> tuple[str, int]:
    """The Kafka topic of one of our partitions, and its number there."""
    if partition in COMMERCE_PARTITIONS:
        return COMMERCE_TOPIC, partition - COMMERCE_PARTITIONS.start
    assert partition in SOCIAL_PARTITIONS, partition
    return SOCIAL_TOPIC, partition


class KafkaFrames:
    """Sends frames, in order within their partition, and tells when all of them are durable."""

    def __init__(self, bootstrap: str) -> None:
        self._failed: KafkaError | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "message.timeout.ms": DELIVERY_SECONDS * 1000,
                "message.max.bytes": 4_000_000,
                "queue.buffering.max.kbytes": 65_536,
                "reconnect.backoff.max.ms": 1000,
                "client.id": "plaza-relay",
                "log.connection.close": False,
            }
        )

    def send(self, frame: FrameLines) -> None:
        """Put a frame in the sending queue. Raises `BrokerUnavailable` when it stays full."""
        topic, partition = topic_of(frame.partition)
        try:
            self._producer.produce(
                topic, encode_frame(frame), partition=partition, on_delivery=self._delivered
            )
        except (BufferError, KafkaException) as error:
            raise BrokerUnavailable(str(error)) from error
        self._producer.poll(0)

    async def flush(self) -> None:
        """Return once every frame sent so far is durable; else raises `BrokerUnavailable`."""
        left = await asyncio.to_thread(self._producer.flush, DELIVERY_SECONDS + 5)
        failed, self._failed = self._failed, None
        if failed is not None or left:
            self._producer.purge()
            raise BrokerUnavailable(str(failed or f"{left} frames were not taken in time"))

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None and self._failed is None:
            self._failed = error


def create_topics(bootstrap: str) -> None:
    """Make the topics that are not there yet. Raises `BrokerUnavailable`."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log.connection.close": False})
    config = {"retention.ms": str(RETENTION_MS), "max.message.bytes": "4194304"}
    wanted = [NewTopic(t, num_partitions=PARTITIONS_PER_HALF, config=config) for t in TOPICS]
    for future in admin.create_topics(wanted, operation_timeout=ADMIN_SECONDS).values():
        try:
            future.result(ADMIN_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise BrokerUnavailable(str(error)) from error
        except TimeoutError as error:
            raise BrokerUnavailable(f"{bootstrap} does not answer") from error


def consumer_groups(bootstrap: str) -> list[str]:
    """The names of all consumer groups. Raises `BrokerUnavailable`."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log.connection.close": False})
    try:
        found = admin.list_consumer_groups(request_timeout=ADMIN_SECONDS).result(ADMIN_SECONDS)
    except (KafkaException, TimeoutError) as error:
        raise BrokerUnavailable(str(error)) from error
    return [group.group_id for group in found.valid]


def consumer_lag(bootstrap: str, group: str, topics: Sequence[str] = TOPICS) -> dict[str, int]:
    """Messages that a consumer group has not acknowledged, by `topic/partition`."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log.connection.close": False})
    asked = ConsumerGroupTopicPartitions(group)
    futures = admin.list_consumer_group_offsets([asked], request_timeout=ADMIN_SECONDS)
    reached = {
        (place.topic, place.partition): place.offset
        for place in futures[group].result(ADMIN_SECONDS).topic_partitions
    }
    lag = {}
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{group}-lag"})
    try:
        for topic in topics:
            for number in range(PARTITIONS_PER_HALF):
                place = TopicPartition(topic, number)
                low, high = consumer.get_watermark_offsets(place, timeout=ADMIN_SECONDS)
                lag[f"{topic}/{number}"] = high - max(reached.get((topic, number), low), low)
    except KafkaException as error:
        raise BrokerUnavailable(str(error)) from error
    finally:
        consumer.close()
    return lag
