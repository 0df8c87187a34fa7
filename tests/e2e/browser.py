"""A headless Chromium for tests of the page."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
LOAD_SECONDS = 60.0
#: A page is made anew with each record that comes.
CLICKS = 10


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """From nothing: another part of the page alone would not load it again."""
        self.driver.get("about:blank")
        self.driver.get(url)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, find: Callable[[], WebElement]) -> None:
        """What is found, and once more where the page was made anew under the mouse."""
        for number in range(CLICKS):
            try:
                find().click()
            except StaleElementReferenceException:
                if number == CLICKS - 1:
                    raise
            else:
                return

    def text(self, selector: str) -> str:
        """All text of an element, whether it can be seen or not; "" where there is none."""
        return str(self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def run(self, script: str, *given: object) -> object:
        return self.driver.execute_script(script, *given)

    def complaints(self) -> list[str]:
        """What the page logged since it was last asked: errors of scripts, and what the policy kept out."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextmanager
def browser(width: int = 1280, height: int = 1400, *, dark: bool = False) -> Iterator[Browser]:
    options = Options()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}"):
        options.add_argument(argument)
    if dark:
        options.add_argument("--blink-settings=preferredColorScheme=0")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.set_page_load_timeout(LOAD_SECONDS)
        yield Browser(driver)
    finally:
        driver.quit()
