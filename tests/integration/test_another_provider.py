"""The same journey on a provider that was started by hand: nothing in the product knows."""

from pathlib import Path

from tests.contract.provider import ACCOUNT, API_KEY, HMAC_KEY, start_stand_in
from tests.fault.system import System
from tests.journey import from_post_to_return
from tests.market import Market


async def test_another_provider_is_chosen_by_four_settings(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    system = System(tmp_path / "plaza")
    stand_in = start_stand_in(tmp_path / "adyen", f"{system.command_url}/api/webhooks/adyen")
    system.settings = {
        "PLAZA_ADYEN_BASE_URL": stand_in.url,
        "PLAZA_ADYEN_API_KEY": API_KEY,
        "PLAZA_ADYEN_MERCHANT_ACCOUNT": ACCOUNT,
        "PLAZA_ADYEN_HMAC_KEY": HMAC_KEY,
    }
    try:
        await system.start()
        assert "adyen" not in system.children()
        async with Market.open(system.command_url, system.query_url) as market:
            done = await from_post_to_return(market)
        (payment,) = stand_in.books()["payments"]
    finally:
        await system.stop()
        stand_in.server.stop()
    assert payment["reference"] == done["checkoutId"]
    assert [m["kind"] for m in payment["movements"]] == ["capture", "refund", "refund"]
    assert {m["failed"] for m in payment["movements"]} == {False}
