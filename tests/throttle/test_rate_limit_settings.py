"""The settings of the rate limit: the server's address and the limit."""

from pathlib import Path

import pytest

from tests.support.app import SETTINGS
from tokenapp import config

ADDRESSES = {
    "redis://127.0.0.1": "redis://127.0.0.1",
    "redis://:p%40ss@[::1]:6379/0": "redis://:p%40ss@[::1]:6379/0",
    "rediss://user:pass@redis.example.com:6380/1": "rediss://user:pass@redis.example.com:6380/1",
    "valkey://127.0.0.1:6379": "redis://127.0.0.1:6379",
    "valkeys://v.example.com?ssl_ca_certs=/etc/ca.pem": "rediss://v.example.com?ssl_ca_certs=/etc/ca.pem",
    "unix:///run/redis.sock": "unix:///run/redis.sock",
    "redis+unix:///run/redis.sock?db=1": "unix:///run/redis.sock?db=1",
    "valkey+unix://user:pass@/run/valkey.sock": "unix://user:pass@/run/valkey.sock",
}
BAD_ADDRESSES = [
    "canary",
    "memory://canary",
    "memcached://canary:11211",
    "redis+cluster://canary:6379",
    "redis://",
    "redis://:canary@",
    "redis://:canary@host:0",
    "redis://:canary@host:65536",
    "redis://:canary@host:port",
    "redis://:canary@[::1",
    "redis://:canary@host/name",
    "redis://:canary@host/0#x",
    "redis://:can/ary@host",
    "redis://:canary@host?socket_timeout=60",
    "rediss://:canary@host?ssl_cert_reqs=none",
    "unix://canary",
    "REDIS://:canary@host",
]


@pytest.mark.parametrize(("raw", "meant"), ADDRESSES.items())
def test_address_of_a_server_is_accepted(tmp_path: Path, raw: str, meant: str) -> None:
    settings = config.load({**SETTINGS, "RATELIMIT_STORAGE_URI": raw}, tmp_path)
    assert settings.ratelimit_storage_uri == meant


@pytest.mark.parametrize("raw", BAD_ADDRESSES)
def test_other_address_is_rejected_without_repeating_its_password(tmp_path: Path, raw: str) -> None:
    with pytest.raises(config.ConfigError, match="RATELIMIT_STORAGE_URI must look like") as error:
        config.load({**SETTINGS, "RATELIMIT_STORAGE_URI": raw}, tmp_path)
    assert "canary" not in str(error.value)


@pytest.mark.parametrize("raw", ["0", "-1", "100001", "60/minute", "1e3"])
def test_limit_must_be_a_whole_number_per_minute(tmp_path: Path, raw: str) -> None:
    with pytest.raises(config.ConfigError, match="TOKENAPP_ADDRESS_FAILURES must be a whole number"):
        config.load({**SETTINGS, "TOKENAPP_ADDRESS_FAILURES": raw}, tmp_path)
