"""The page in a real browser, driven as a reader would, and looked at through its pixels and its link."""

import shutil
import time
from urllib.parse import parse_qs, urlsplit

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'dirl[dev]'")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1300,900",
)
PATIENCE_S = 40


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip(
            "needs Chromium and its chromedriver, for example apt-get install chromium chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture
def page(browser, viewer):
    """The viewer's page, ready; afterwards its console must be empty."""

    def open_page(link=""):
        browser.get("about:blank")
        browser.get(viewer.url + link)
        until(lambda: browser.find_element(By.TAG_NAME, "body").get_attribute("data-ready"))
        return browser

    yield open_page
    said = [entry["message"] for entry in browser.get_log("browser")]
    # Reading pixels back is what these tests do, not the page.
    assert [message for message in said if "getImageData" not in message] == []


def until(condition):
    """Wait for something to become true, and return it."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def link(browser):
    values = parse_qs(urlsplit(browser.current_url).fragment)
    return {name: value[0] for name, value in values.items()}


def place(browser):
    found = link(browser)
    return tuple(float(found[name]) for name in ("x", "y", "mpp")) if "mpp" in found else None


def press(browser, key):
    browser.find_element(By.TAG_NAME, "body").send_keys(key)


def painted(browser, side=0):
    """How many pixels of what is drawn over a pane are not transparent."""
    return browser.execute_script(
        """const canvas = document.querySelector(`#pane-${arguments[0]} canvas.drawn`);
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let count = 0;
        for (let i = 3; i < data.length; i += 4) if (data[i]) count += 1;
        return count;""",
        side,
    )


def middle(browser, side=0):
    """Colour in the middle of a pane's picture, with the layers that lie on it."""
    return browser.execute_script(
        """const canvas = document.querySelector(`#pane-${arguments[0]} .openseadragon-canvas canvas`);
        const at = [canvas.width / 2, canvas.height / 2].map(Math.round);
        return Array.from(canvas.getContext("2d").getImageData(...at, 1, 1).data).slice(0, 3);""",
        side,
    )


def shows(browser, side, text):
    return text in browser.find_element(By.CSS_SELECTOR, f"#pane-{side} .heading").text


def click(browser, x, y, side=0):
    """Click on a pane, x and y in pixels from its middle."""
    pane = browser.find_element(By.CSS_SELECTOR, f"#pane-{side}")
    actions = webdriver.ActionChains(browser, duration=10)
    actions.move_to_element_with_offset(pane, x, y).click().perform()


def test_pan_and_zoom_move_the_picture_and_the_link(page):
    browser = page("#slide=slide&x=256&y=256&mpp=0.5")
    before = until(lambda: place(browser))
    assert before == (256, 256, 0.5)
    press(browser, "+")
    until(lambda: place(browser)[2] == pytest.approx(0.5 / 1.5, rel=1e-3))
    press(browser, Keys.ARROW_RIGHT)
    until(lambda: place(browser)[0] > 300)
    pane = browser.find_element(By.CSS_SELECTOR, "#pane-0 .openseadragon-canvas")
    here = place(browser)
    drag = webdriver.ActionChains(browser, duration=50).move_to_element(pane).click_and_hold()
    drag.move_by_offset(-60, 40).move_by_offset(-60, 40).release().perform()
    until(lambda: place(browser)[0] > here[0] + 20 and place(browser)[1] < here[1] - 10)
    press(browser, "1")
    until(lambda: place(browser)[2] == pytest.approx(0.5, rel=1e-3))
    assert browser.find_element(By.CSS_SELECTOR, "#pane-0 .ruler").text.endswith("µm")
    press(browser, "0")  # the whole picture, above the chips at the bottom, which are 46 px high
    height = browser.execute_script("return document.querySelector('#pane-0').clientHeight")
    middle = (256, 256 / (1 - 46 / height))
    until(lambda: place(browser)[:2] == pytest.approx(middle, abs=1))


def test_overlays_are_drawn_and_taken_away(page):
    browser = page("#slide=slide&x=256&y=256&mpp=0.5")
    assert painted(browser) == 0
    press(browser, "g")
    grid = until(lambda: painted(browser))
    browser.find_element(By.ID, "nuclei").click()
    hint = browser.find_element(By.CSS_SELECTOR, "#pane-0 .hint")
    until(lambda: painted(browser) > grid and not hint.text)
    assert link(browser)["show"] == "grid,nuclei"
    press(browser, "g")
    press(browser, "n")
    until(lambda: painted(browser) == 0)
    plain = until(lambda: middle(browser))
    press(browser, "t")
    until(lambda: middle(browser) != plain)
    press(browser, "t")
    until(lambda: middle(browser) == plain)


def test_attention_is_laid_over_the_picture(page):
    browser = page("#slide=slide&x=256&y=256&mpp=0.5")
    plain = until(lambda: middle(browser))
    press(browser, "a")
    until(lambda: shows(browser, 0, "first, block 1 · mean of heads") and middle(browser) != plain)
    mean = middle(browser)
    press(browser, ".")
    until(lambda: shows(browser, 0, "head 0") and middle(browser) != mean)
    for _ in range(6):
        press(browser, "[")
    until(lambda: middle(browser) == plain)
    assert link(browser)["opacity"] == "0" and link(browser)["of"] == "0.1"


def choices(browser, name):
    """Options of a field beside the panes, the chosen one, and a function that chooses."""
    field = next(
        one for one in browser.find_elements(By.CSS_SELECTOR, "#sources label") if one.text.startswith(name)
    )
    options = field.find_elements(By.TAG_NAME, "option")
    chosen = next(one.text for one in options if one.is_selected())
    return [one.text for one in options], chosen, lambda i: options[i].click()


def test_top_regions_are_outlined(page):
    browser = page("#slide=slide&x=256&y=256&mpp=0.5")
    assert not browser.find_element(By.ID, "regions-line").is_displayed()
    press(browser, "a")
    until(lambda: shows(browser, 0, "first, block 1"))
    assert painted(browser) == 0
    browser.find_element(By.ID, "regions").click()
    # The sides of a square of 256 px of the slide, 4 screen pixels wide.
    until(lambda: 4 * 4 * 200 < painted(browser) < 4 * 6 * 300)
    assert link(browser)["show"] == "regions"
    press(browser, "r")
    until(lambda: painted(browser) == 0)


def test_the_maps_of_an_encoder_are_chosen_by_block(page):
    browser = page("#slide=slide&x=256&y=256&mpp=0.5&by=map&of=0.1")
    until(lambda: shows(browser, 0, "first, block 1 · head 0"))
    assert choices(browser, "Encoder")[:2] == (["first", "second"], "first")
    blocks, chosen, choose = choices(browser, "Block")
    assert blocks == ["block 0", "block 1"] and chosen == "block 1"
    before = until(lambda: middle(browser))
    choose(0)
    until(lambda: shows(browser, 0, "first, block 0 · head 0") and middle(browser) != before)
    assert link(browser)["of"] == "2.1"
    choices(browser, "Encoder")[2](1)
    until(lambda: shows(browser, 0, "second, block 1 · head 0"))
    assert choices(browser, "Block")[0] == ["block 1"]


def test_the_token_does_not_stay_in_the_address(page, viewer):
    browser = page("#slide=slide&x=256&y=256&mpp=0.5")
    assert viewer.token not in browser.current_url and link(browser)["mpp"] == "0.50000"
    # A link without it leads back, as long as the browser keeps its cookie.
    browser.get("about:blank")
    browser.get(f"{viewer.address}#slide=slide&x=200&y=300&mpp=0.4")
    until(lambda: place(browser) == pytest.approx((200, 300, 0.4), rel=1e-3))
    browser.delete_all_cookies()
    browser.get("about:blank")
    browser.get(viewer.address)
    assert "dirl view" in browser.find_element(By.TAG_NAME, "body").text
    browser.get_log("browser")  # it tells of the refusal


def test_two_models_share_pan_and_zoom(page):
    browser = page("#slide=slide&x=256&y=256&mpp=0.5&by=map&of=0.0")
    press(browser, "c")
    until(lambda: shows(browser, 1, "second, block 1"))
    assert shows(browser, 0, "first, block 1")
    until(lambda: middle(browser, 0) != middle(browser, 1))

    def mpp(side):
        return float(browser.find_element(By.ID, f"pane-{side}").get_attribute("data-mpp"))

    until(lambda: mpp(0) == pytest.approx(mpp(1)) == pytest.approx(0.5, rel=1e-3))
    press(browser, "+")
    until(lambda: mpp(0) == pytest.approx(mpp(1)) == pytest.approx(0.5 / 1.5, rel=1e-3))
    # The other pane leads as well.
    pane = browser.find_element(By.CSS_SELECTOR, "#pane-1 .openseadragon-canvas")
    origin = webdriver.common.actions.wheel_input.ScrollOrigin.from_element(pane)
    webdriver.ActionChains(browser).scroll_from_origin(origin, 0, -200).perform()
    until(lambda: mpp(0) < 0.3 and mpp(0) == pytest.approx(mpp(1)))


def test_a_click_tells_all_about_a_tile(page):
    browser = page("#slide=slide&x=256&y=256&mpp=0.5&by=map&of=0.0")
    click(browser, 20, 20)
    panel = browser.find_element(By.ID, "tile")
    until(lambda: "slide_256_256" in panel.text)
    text = panel.text
    assert "256, 256 px" in text and "nuclei" in text and "normalised entropy" in text
    assert "<b>two</b>" in text  # a name, not markup
    assert not panel.find_elements(By.TAG_NAME, "b")
    tokens = panel.find_element(By.CSS_SELECTOR, ".images img.tokens")
    until(lambda: tokens.get_attribute("complete") == "true" and tokens.get_property("naturalWidth") == 8)
    chosen = link(browser)["tile"]
    neighbours = panel.find_elements(By.CSS_SELECTOR, ".near button")
    assert len(neighbours) == 8
    neighbours[0].click()
    until(lambda: link(browser).get("tile") not in {chosen, None})
    press(browser, Keys.ESCAPE)
    until(lambda: "tile" not in link(browser) and "Click on a tile" in panel.text)


def test_measures_colour_the_tiles(page):
    browser = page("#slide=slide&x=256&y=256&mpp=0.5&by=measure&of=1&measure=entropy,1,-2")
    until(lambda: painted(browser) > 10_000)
    assert shows(browser, 0, "<b>two</b>, block 1")
    assert browser.find_element(By.CSS_SELECTOR, "#pane-0 .bar .unit").text == "normalised entropy"


def test_a_link_leads_back_to_the_same_place(page):
    given = "#slide=slide&x=200&y=300&mpp=0.4&show=tissue,grid&split=1&tile=3"
    given += "&by=map&of=1.2,0.1&opacity=30&colours=turbo"
    browser = page(given)
    until(
        lambda: shows(browser, 0, "second, block 1 · head 1") and shows(browser, 1, "first, block 1 · head 0")
    )
    until(lambda: place(browser) == pytest.approx((200, 300, 0.4), rel=1e-3))
    found = link(browser)
    assert found["show"] == "tissue,grid" and found["tile"] == "3" and found["colours"] == "turbo"
    assert browser.find_element(By.ID, "tissue").is_selected()


def test_the_keyboard_explains_itself(page):
    browser = page()
    press(browser, "?")
    dialog = browser.find_element(By.ID, "help")
    until(dialog.is_displayed)
    assert "two panes side by side" in dialog.text
    webdriver.ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    until(lambda: not dialog.is_displayed())


def test_the_legend_tells_its_ends_apart_and_is_whole(page):
    browser = page("#slide=slide&by=map&of=0.0&range=0.9988,0.9996")

    def legend(part):
        return browser.find_element(By.CSS_SELECTOR, f"#pane-0 .bar {part}")

    ends = [each.text for each in legend(".ends").find_elements(By.TAG_NAME, "span")]
    assert ends == ["0.9988", "0.9996"]
    browser = page("#slide=slide&by=measure&of=0&measure=components50,0,-2")
    assert legend(".ends").text == "0.25 everywhere"  # all alike: no scale from 0.25 to 0.25
    for part in (".unit", ".ends"):
        width = "return [arguments[0].scrollWidth, arguments[0].clientWidth]"
        needed, there = browser.execute_script(width, legend(part))
        assert legend(part).text and needed <= there
