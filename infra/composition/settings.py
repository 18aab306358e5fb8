"""Every setting of Plaza: an environment variable `PLAZA_…`, read once and checked at the start."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Meta, Struct

PREFIX = "PLAZA_"
MASK = "********"
EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104

Port = Annotated[int, Meta(ge=1, le=65535, extra={"allowed": "a port from 1 to 65535"})]
PortOrNone = Annotated[
    int, Meta(ge=0, le=65535, extra={"allowed": "a port from 1 to 65535, or 0 for none"})
]
Count = Annotated[int, Meta(ge=1, le=10**12, extra={"allowed": "a whole number, 1 or more"})]
Percent = Annotated[
    float, Meta(ge=0, le=100, extra={"allowed": "a number from 0 to 100, 0 for not at all"})
]
Hours = Annotated[int, Meta(ge=0, le=8760, extra={"allowed": "a whole number from 0 to 8760"})]
Weight = Annotated[
    float, Meta(ge=0, le=1_000, extra={"allowed": "a number from 0 to 1000, 0 for nothing"})
]
CacheSeconds = Annotated[
    float, Meta(ge=0, le=60, extra={"allowed": "seconds, from 0 (not at all) to 60"})
]
Text = Annotated[str, Meta(extra={"allowed": "text"})]
Secret = Annotated[str, Meta(extra={"allowed": "text", "secret": True})]
PostgresUrl = Annotated[
    str,
    Meta(
        pattern=r"^(postgres(ql)?://.+)?$",
        extra={"allowed": "postgresql://user:password@host:port/database", "url": True},
    ),
]
RedisUrl = Annotated[
    str,
    Meta(
        pattern=r"^((rediss?|unix)://.+)?$",
        extra={"allowed": "redis://host:port/0", "url": True},
    ),
]
HttpUrl = Annotated[
    str,
    Meta(
        pattern=r"^(https?://[^/\s]+.*)?$",
        extra={"allowed": "an address with http:// or https://", "url": True},
    ),
]
Bootstrap = Annotated[
    str,
    Meta(
        pattern=r"^([^\s,:]+:[0-9]+(,[^\s,:]+:[0-9]+)*)?$",
        extra={"allowed": "host:port, several separated by commas"},
    ),
]


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of one process. An empty text means: not set."""

    data_folder: Annotated[
        str,
        Meta(description="where an embedded system keeps its data", extra={"allowed": "a path"}),
    ] = ".plaza"
    bind_host: Annotated[Text, Meta(description="address both services listen on")] = "127.0.0.1"
    command_api_port: Annotated[Port, Meta(description="port of the command service")] = 8001
    query_api_port: Annotated[Port, Meta(description="port of the query service")] = 8002
    postgres_url: Annotated[
        PostgresUrl, Meta(description="the event log and the read tables; unset: an own PostgreSQL")
    ] = ""
    redis_url: Annotated[
        RedisUrl, Meta(description="timelines and counters; unset: an own Valkey")
    ] = ""
    opensearch_url: Annotated[
        HttpUrl, Meta(description="the search index; unset: an own search server")
    ] = ""
    search_half_life_hours: Annotated[
        Count, Meta(description="after this long, half of what newness adds to a result is gone")
    ] = 72
    search_recency_weight: Annotated[
        Weight, Meta(description="what newness adds to the rank of a post of now: 0 for nothing")
    ] = 4.0
    search_engagement_weight: Annotated[
        Weight, Meta(description="what likes, reposts and replies add to the rank of a post")
    ] = 0.1
    search_cache_seconds: Annotated[
        CacheSeconds, Meta(description="how long the answer to a search is kept for who asks next")
    ] = 2.0
    kafka_bootstrap: Annotated[
        Bootstrap,
        Meta(description="brokers between log and projections; unset: workers follow the log"),
    ] = ""
    celebrity_threshold: Annotated[
        Count, Meta(description="from this many followers on, posts are merged at read")
    ] = 10_000
    reservation_seconds: Annotated[
        Count, Meta(description="how long a checkout holds its units")
    ] = 600
    session_days: Annotated[Count, Meta(description="how long a log-in lasts")] = 30
    rate_limits: Annotated[
        Literal["on", "off"], Meta(description="limits per member, address and route")
    ] = "on"
    rate_limits_table: Annotated[
        str,
        Meta(
            description="routes that are limited otherwise: how many a minute / at once",
            extra={"allowed": "entries like POST /api/posts 60/120, separated by commas"},
        ),
    ] = ""
    allowed_origins: Annotated[
        str,
        Meta(
            description="web pages that may call both services, besides those of this machine",
            extra={"allowed": "origins like https://plaza.example, separated by commas, or *"},
        ),
    ] = ""
    adyen_base_url: Annotated[
        HttpUrl, Meta(description="a Checkout v72 base; unset: the stand-in on this machine")
    ] = ""
    adyen_api_key: Annotated[Secret, Meta(description="key of the payment provider's API")] = ""
    adyen_merchant_account: Annotated[
        Text, Meta(description="account that payments are booked on")
    ] = "PlazaTest"
    adyen_hmac_key: Annotated[
        Secret, Meta(description="key that signs the payment provider's notifications (hex)")
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least severe log line")
    ] = "info"
    metrics_port: Annotated[
        PortOrNone, Meta(description="where a worker or relay serves /metrics")
    ] = 0
    otlp_endpoint: Annotated[
        HttpUrl,
        Meta(description="collector that traces are sent to; unset: OTEL_EXPORTER_OTLP_ENDPOINT"),
    ] = ""
    otlp_percent: Annotated[Percent, Meta(description="share of all requests that is traced")] = (
        100.0
    )
    retired_build_hours: Annotated[
        Hours, Meta(description="how long what was served before a switch can be switched back to")
    ] = 24
    audit_percent: Annotated[
        Percent, Meta(description="share of one core for checking what is served against the log")
    ] = 2.0
    audit_repair: Annotated[
        Literal["on", "off"], Meta(description="mend documents that the audit finds wrong")
    ] = "off"
    answer_days: Annotated[
        Count, Meta(description="how long answers to idempotency keys are kept")
    ] = 7
    java_home: Annotated[
        Text, Meta(description="a Java of version 21 or later, for Kafka and OpenSearch")
    ] = ""

    @property
    def folder(self) -> Path:
        return Path(self.data_folder).absolute()

    @property
    def origins(self) -> list[str]:
        return [origin.strip() for origin in self.allowed_origins.split(",") if origin.strip()]


class SettingsInvalid(Exception):
    """One or several variables cannot be used; the message names each and what it may be."""


# Read by the tests, `make`, `compose.yaml` and CI, not by the product.
KNOWN_ELSEWHERE = ("PLAZA_REQUIRE_FULL", "PLAZA_FAULT_", "PLAZA_POSTGRES_PASSWORD")


# OpenTelemetry's own name for it, which collectors set for whatever runs beside them.
COMMON_NAMES = {"otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT"}


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read and check all variables. Raises `SettingsInvalid` naming every bad one."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in msgspec.structs.fields(Settings):
        name = variable_name(field.name)
        text = given(environ, field.name)
        if not text:
            continue
        try:
            values[field.name] = msgspec.convert(text, field.type, strict=False)
        except msgspec.ValidationError:
            shown = MASK if _extra(field.type).get("secret") else repr(text)
            problems.append(f"{name} is {shown}, but must be {allowed(field.type)}")
    if problems:
        raise SettingsInvalid("\n".join(problems))
    settings = Settings(**values)
    if settings.command_api_port == settings.query_api_port:
        raise SettingsInvalid(
            "PLAZA_COMMAND_API_PORT and PLAZA_QUERY_API_PORT are both "
            f"{settings.query_api_port}, but must differ: they are two services"
        )
    return settings


def given(environ: Mapping[str, str], field_name: str) -> str:
    """What the environment says of a setting, under our name for it or the one everybody uses."""
    own = environ.get(variable_name(field_name), "").strip()
    return own or environ.get(COMMON_NAMES.get(field_name, ""), "").strip()


def to_environment(settings: Settings) -> dict[str, str]:
    """The variables under which `load_settings` answers these settings again."""
    return {
        variable_name(field.name): str(getattr(settings, field.name))
        for field in msgspec.structs.fields(Settings)
    }


def describe(
    settings: Settings, environ: Mapping[str, str], own: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Each variable with its value and where that comes from.

    `own` names the fields that hold the address of a server that `plaza up` started: those are
    shown as they are, so that they can be connected to. Every other secret is masked.
    """
    own = frozenset(own)
    rows = []
    for field in msgspec.structs.fields(Settings):
        value = getattr(settings, field.name)
        name = variable_name(field.name)
        extra = _extra(field.type)
        if field.name in own:
            source = "own server"
        else:
            source = "environment" if given(environ, field.name) else "default"
            if extra.get("url"):
                value = _without_password(value)
        if extra.get("secret") and value:
            value = MASK
        shown = None if value == "" else value
        rows.append({"name": name, "value": shown, "source": source})
    return rows


def descriptions() -> dict[str, str]:
    """What each variable is for, in a few words."""
    return {
        variable_name(field.name): str(
            next(meta.description for meta in field.type.__metadata__ if meta.description)
        )
        for field in msgspec.structs.fields(Settings)
    }


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Variables with our prefix that mean nothing to us, each with the likeliest meant one."""
    known = {variable_name(field.name) for field in msgspec.structs.fields(Settings)}
    unknown = {}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and not name.startswith(KNOWN_ELSEWHERE):
            close = difflib.get_close_matches(name, sorted(known), n=1)
            unknown[name] = close[0] if close else None
    return unknown


def service_address(settings: Settings, port: int) -> str:
    """Where one of our services is reached from this machine."""
    host = "127.0.0.1" if settings.bind_host in EVERYWHERE else settings.bind_host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def variable_name(field_name: str) -> str:
    return PREFIX + field_name.upper()


def allowed(kind: Any) -> str:
    """What a variable of this type may hold, in words."""
    if get_origin(kind) is Annotated:
        words = _extra(kind).get("allowed")
        return str(words) if words else allowed(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return " or ".join(str(choice) for choice in get_args(kind))
    return str(getattr(kind, "__name__", kind))


def _extra(kind: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for meta in getattr(kind, "__metadata__", ()):
        found.update(meta.extra or {})
    return found


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{MASK}@{host}"))
