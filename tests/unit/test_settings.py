"""What settings may hold, and what is said about those that may not."""

import msgspec
import pytest

from infra.composition.settings import (
    MASK,
    Settings,
    SettingsInvalid,
    describe,
    load_settings,
    service_address,
    to_environment,
    unknown_variables,
)


def source_of(name: str, environ: dict[str, str], own: tuple[str, ...] = ()) -> tuple[object, str]:
    rows = describe(load_settings(environ), environ, own)
    row = next(row for row in rows if row["name"] == name)
    return row["value"], row["source"]


def test_an_empty_environment_means_the_defaults() -> None:
    assert load_settings({}) == Settings()


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    assert load_settings({"PLAZA_QUERY_API_PORT": " "}).query_api_port == 8002


def test_variables_are_read_by_their_names() -> None:
    settings = load_settings({"PLAZA_CELEBRITY_THRESHOLD": "50", "PLAZA_RATE_LIMITS": "off"})
    assert (settings.celebrity_threshold, settings.rate_limits) == (50, "off")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLAZA_COMMAND_API_PORT", "65536"),
        ("PLAZA_COMMAND_API_PORT", "eighty"),
        ("PLAZA_CELEBRITY_THRESHOLD", "0"),
        ("PLAZA_RATE_LIMITS", "perhaps"),
        ("PLAZA_POSTGRES_URL", "mysql://host/db"),
        ("PLAZA_REDIS_URL", "host:6379"),
        ("PLAZA_KAFKA_BOOTSTRAP", "host"),
        ("PLAZA_OPENSEARCH_URL", "host:9200"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_what_is_allowed(name: str, value: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load_settings({name: value})
    assert str(refused.value).startswith(f"{name} is '{value}', but must be ")


def test_all_bad_values_are_named_at_once() -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load_settings({"PLAZA_RATE_LIMITS": "x", "PLAZA_LOG_LEVEL": "y"})
    assert [line.split()[0] for line in str(refused.value).splitlines()] == [
        "PLAZA_RATE_LIMITS",
        "PLAZA_LOG_LEVEL",
    ]


def test_two_services_cannot_share_a_port() -> None:
    with pytest.raises(SettingsInvalid, match="must differ"):
        load_settings({"PLAZA_COMMAND_API_PORT": "8002"})


def test_settings_survive_the_way_through_the_environment_of_a_child() -> None:
    settings = msgspec.structs.replace(
        Settings(), postgres_url="postgresql://a:b@127.0.0.1:1/plaza", session_days=3
    )
    assert load_settings(to_environment(settings)) == settings


def test_secrets_are_shown_only_as_a_mask() -> None:
    environ = {"PLAZA_ADYEN_API_KEY": "sesame"}
    assert source_of("PLAZA_ADYEN_API_KEY", environ) == (MASK, "environment")


def test_the_password_of_somebody_elses_server_is_masked() -> None:
    environ = {"PLAZA_POSTGRES_URL": "postgresql://me:sesame@db:5432/plaza"}
    assert source_of("PLAZA_POSTGRES_URL", environ) == (
        f"postgresql://me:{MASK}@db:5432/plaza",
        "environment",
    )


def test_the_address_of_an_own_server_can_be_connected_to() -> None:
    environ = {"PLAZA_POSTGRES_URL": "postgresql://me:sesame@127.0.0.1:5432/plaza"}
    assert source_of("PLAZA_POSTGRES_URL", environ, ("postgres_url",)) == (
        "postgresql://me:sesame@127.0.0.1:5432/plaza",
        "own server",
    )


def test_what_is_not_set_has_no_value() -> None:
    assert source_of("PLAZA_REDIS_URL", {}) == (None, "default")


def test_a_misspelt_variable_is_noticed() -> None:
    assert unknown_variables({"PLAZA_CELEBRTY_THRESHOLD": "1", "PATH": ""}) == {
        "PLAZA_CELEBRTY_THRESHOLD": "PLAZA_CELEBRITY_THRESHOLD"
    }


def test_services_on_all_addresses_are_reached_on_this_machine() -> None:
    settings = msgspec.structs.replace(Settings(), bind_host="0.0.0.0")
    assert service_address(settings, 8001) == "http://127.0.0.1:8001"
