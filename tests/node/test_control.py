"""Who may operate a node over HTTP: somebody on its machine or with its token, and no page of a stranger's."""

from typing import Any

import pytest

from node.control import MAX_BODY_BYTES
from tests.node.test_http import FULL, TOKEN, Shown, client

JSON = {"content-type": "application/json"}
ELSEWHERE = "192.0.2.9"


async def ask(
    path: str = "/api/pause", body: str = "{}", peer: str = "127.0.0.1", bound: str = "127.0.0.1", **headers: str
) -> tuple[int, Any, list[tuple[object, ...]]]:
    """Status, answer, and what the node was told."""
    node = Shown(FULL)
    async with client(node, host=bound, peer=peer) as web:
        given = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = await web.post(path, content=body, headers=given)
    return answer.status_code, answer.json(), node.orders


async def test_somebody_on_the_machine_may() -> None:
    assert await ask() == (202, {"accepted": True}, [("pause", True)])
    assert (await ask("/api/resume"))[2] == [("pause", False)]
    assert (await ask("/api/verdict", '{"commit": "abcd", "approve": false}'))[2] == [("judge", "abcd", False)]
    assert (await ask(bound="0.0.0.0", origin="http://127.0.0.1:8420", sec_fetch_site="same-origin"))[0] == 202


async def test_somebody_elsewhere_may_with_the_token_alone() -> None:
    refused = await ask(peer=ELSEWHERE, bound="0.0.0.0")
    assert refused[0] == 403
    assert "token" in refused[1]["error"]
    assert refused[2] == []
    assert (await ask(peer=ELSEWHERE, bound="0.0.0.0", authorization=f"Bearer {TOKEN}"))[0] == 202
    for wrong in ("Bearer wrong", "Bearer ", TOKEN, "Bearer \u00fc"):
        assert (await ask(bound="0.0.0.0", authorization=wrong.encode("latin-1")))[::2] == (403, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"host": "evil.example"}, 403),
    ],
)
async def test_a_strangers_page_may_not_in_the_browser_of_somebody_who_may(
    headers: dict[str, str], expected: int
) -> None:
    assert (await ask(bound="0.0.0.0", **headers))[::2] == (expected, [])


async def test_a_name_that_points_here_does_not_even_ask() -> None:
    node = Shown(FULL)
    async with client(node) as web:
        answer = await web.post("/api/pause", content="{}", headers={**JSON, "host": "evil.example"})
    assert (answer.status_code, node.orders) == (421, [])


async def test_browsers_get_no_leave_to_ask_from_elsewhere() -> None:
    async with client(FULL) as web:
        answer = await web.options("/api/pause", headers={"origin": "http://evil.example"})
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", 'expected {"commit"'),
        ("[]", "expected a JSON object"),
        ("{", "expected a JSON object"),
        ('{"commit": 1, "approve": true}', 'expected {"commit"'),
        ('{"commit": "abcd", "approve": "yes"}', 'expected {"commit"'),
        ('{"commit": "unknown", "approve": true}', "no experiment of a commit"),
        (" " * (MAX_BODY_BYTES + 1), "at most 4096 bytes"),
    ],
)
async def test_what_is_not_understood_is_told_in_one_line(body: str, why: str) -> None:
    status, answer, orders = await ask("/api/verdict", body)
    assert (status, orders) == (400, [])
    assert why in answer["error"]


async def test_reading_changes_nothing() -> None:
    node = Shown(FULL)
    async with client(node) as web:
        for path in ("/api/pause", "/api/resume", "/api/verdict"):
            assert (await web.get(path)).status_code == 405
    assert node.orders == []
