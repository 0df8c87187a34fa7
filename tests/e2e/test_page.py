"""The page, in a real browser, of real nodes."""

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from node.home import Home
from tests.e2e.browser import CHROMIUM, DRIVER, Browser, browser
from tests.e2e.crowd import crowded
from tests.e2e.kit import Place, Running, resting
from tests.programs.variants import write_numbers
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not (Path(CHROMIUM).exists() and Path(DRIVER).exists()), reason="make test installs chromium"),
]
MANY = 10_000
#: A home that holds this many is there, and its page, on a busy machine.
SECONDS = 60.0


@pytest.fixture
def window() -> Iterator[Browser]:
    with browser() as made:
        yield made


async def swarm(nodes: Place, folder: Path) -> tuple[Running, Running]:
    program = write_numbers(folder, seconds=1)
    first = await nodes.start("first", "--program", str(program), "--no-mdns").up()
    second = nodes.start("second", first.address, "--yes", "--no-mdns", command="join")
    return first, await second.up()


async def test_a_live_swarm_is_seen_and_paused_by_keyboard_alone(nodes: Place, tmp_path: Path, window: Browser) -> None:
    first, second = await swarm(nodes, tmp_path / "program")
    window.open(first.said("http") + "/")
    await until(lambda: len(window.all("#rows tr")) >= 5, SECONDS)
    seen = window.text("#count")
    await until(lambda: window.text("#count") != seen, SECONDS)  # more come by themselves
    await until(lambda: "2" in window.text("#headlines"), SECONDS)
    assert window.run("return document.querySelectorAll('#chart canvas').length") == 1

    await until(lambda: len(window.all("#rows a")) >= 5, SECONDS)
    held, seen = focus(window, "#rows a"), window.text("#count")
    await until(lambda: window.text("#count") != seen, SECONDS)
    assert window.run("return document.activeElement.getAttribute('href')") == held  # though the table was made anew

    pause = window.find("#pause")
    window.run("arguments[0].focus()", pause)
    pause.send_keys(Keys.ENTER)
    done = (await first.until(resting))["experiments"]["own"]
    await second.until(lambda status: status["experiments"]["own"] >= done // 2 + 3)
    assert first.status()["experiments"]["own"] == done
    await until(lambda: pause.text == "Resume", SECONDS)
    pause.send_keys(Keys.SPACE)
    await first.until(lambda status: not status["paused"] and status["experiments"]["own"] > done)

    window.open(first.said("http") + "/#/nodes")
    await until(lambda: len(window.all("#nodes-rows tr")) == 2, SECONDS)
    assert second.said("peer_id") in window.text("#nodes-rows")
    window.open(first.said("http") + "/#/lineage")
    await until(lambda: "on the way to the incumbent" in window.text("#tree"), SECONDS)
    assert first.status()["tier"] == window.text("#lineage-tier")
    assert window.complaints() == []


async def test_the_founder_approves_and_vetoes_on_the_page(nodes: Place, tmp_path: Path, window: Browser) -> None:
    founder = json.loads(nodes.waggle("identity", "--json", "--home", str(tmp_path / "first")).stdout)["peer_id"]
    review = f'founder = "{founder}"\nreview = "required"\n'
    program = write_numbers(tmp_path / "program", seconds=1, extra=review)
    first = await nodes.start("first", "--program", str(program), "--no-mdns").up()
    await first.until(lambda status: len(status["awaiting"]) > 0)
    window.open(first.said("http") + "/")
    await until(lambda: window.all("#awaiting a") != [], SECONDS)
    nodes.waggle("pause", "--home", str(first.home))
    await first.until(lambda status: not status["current"])
    for button, accepted in (("Approve", 1), ("Veto", 0)):
        if button == "Approve":
            await until(lambda: window.all("#awaiting a") != [], SECONDS)
            window.click(lambda: window.find("#awaiting a"))
        await until(lambda: window.all("#experiment button") != [], SECONDS)
        window.click(partial(the_one, window, "#experiment button", button))
        window.driver.switch_to.alert.accept()
        await first.until(lambda status, accepted=accepted: status["experiments"]["accepted"] == accepted)
    assert window.complaints() == []


def the_one(window: Browser, selector: str, text: str) -> WebElement:
    (found,) = (one for one in window.all(selector) if one.text == text)
    return found


def focus(window: Browser, selector: str) -> str:
    """Give a link the keyboard's focus; where it leads."""
    script = "const link = document.querySelector(arguments[0]); link.focus(); return link.getAttribute('href')"
    return str(window.run(script, selector))


@pytest.fixture
def crowd(nodes: Place, tmp_path: Path) -> Running:
    """A node of a home with many experiments, which runs none itself."""
    program = write_numbers(tmp_path / "program")
    tier = json.loads(nodes.waggle("doctor", "--json").stdout)["device"]["tier"]
    crowded(Home(tmp_path / "crowd"), program, MANY, tier=tier, now_ms=time.time_ns() // 1_000_000)
    return nodes.start("crowd", "--program", str(program), "--no-mdns", "--max-experiments", "0")


async def test_ten_thousand_experiments_of_peers_who_write_html(crowd: Running, window: Browser) -> None:
    await crowd.up()
    window.open(crowd.said("http") + "/")
    began = time.monotonic()
    await until(lambda: f"of {MANY} experiments" in window.text("#count"), SECONDS)
    print(f"{MANY} experiments are shown after {time.monotonic() - began:.1f} s")
    assert len(window.all("#rows tr")) == 50

    commit = json.loads(crowd.get(f"/api/experiments?after={MANY - 1}"))["rows"][0]["commit"]
    ledger = crowd.ledger()
    runs = sum(row["commit"] == commit for row in ledger)
    search = window.find("#search")
    search.send_keys(commit)
    await until(lambda: window.text("#count").startswith(f"{runs} of"), SECONDS)
    search.send_keys(Keys.CONTROL + "a", Keys.DELETE)
    await until(lambda: window.text("#count").startswith(f"{MANY} of"), SECONDS)
    crashed = sum(row["status"] == "crashed" for row in ledger)
    Select(window.find("#status")).select_by_value("crashed")
    await until(lambda: window.text("#count").startswith(f"{crashed} of"), SECONDS)
    assert {row.text for row in window.all("#rows td:nth-child(5)")} == {"crashed"}

    window.find("#rows a").click()
    await until(lambda: "Why it was not scored" in window.text("#experiment"), SECONDS)
    shown = window.text("#experiment")
    assert "<script>document.title='owned'</script>" in shown  # as the words that it is
    assert "\u202e" not in shown
    assert "\x1b" not in shown
    await until(lambda: window.text("#curve") != "", SECONDS)
    made_from = json.loads(crowd.get(window.run("return '/api' + location.hash.slice(1)")))["parent"]  # type: ignore[operator]
    window.find(".facts a").click()
    await until(lambda: f"Commit{made_from}" in window.text("#experiment .facts"), SECONDS)
    for view in ("#/lineage", "#/nodes", "#/"):
        window.open(crowd.said("http") + "/" + view)
        await until(lambda: window.text("#what") != "connecting …", SECONDS)
    assert "owned" not in window.driver.title
    assert window.run("return document.querySelectorAll('img, script:not([src]), svg').length") == 0
    assert window.complaints() == []


async def test_on_a_phone_in_the_dark_nothing_hangs_over(crowd: Running) -> None:
    await crowd.up()
    with browser(500, 1000, dark=True) as phone:
        phone.open(crowd.said("http") + "/")
        await until(lambda: len(phone.all("#rows tr")) == 50, SECONDS)
        assert phone.run("return document.documentElement.scrollWidth <= window.innerWidth")
        assert phone.run("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"


async def test_what_a_screen_reader_is_told(crowd: Running, window: Browser) -> None:
    """Every control and region has a name, headings are in order, and the page has one main part."""
    await crowd.up()
    window.open(crowd.said("http") + "/")
    await until(lambda: len(window.all("#rows tr")) == 50, SECONDS)
    controls = window.all("button, input, select, [role=region], progress, nav")
    assert controls
    assert [one.get_attribute("outerHTML") for one in controls if one.is_displayed() and not one.accessible_name] == []
    assert len(window.all("main")) == len(window.all("h1")) == 1
    assert window.run("return document.documentElement.lang") == "en"
    heads = window.all("thead th")
    assert [head.get_attribute("scope") for head in heads] == ["col"] * len(heads) != []
