"""The page by its keys, on a phone, and while it changes under the hands: `make test-browser`."""

import pytest

pytestmark = pytest.mark.browser
PHONE = (390, 844)


def test_it_works_with_the_keyboard_alone(user):
    from selenium.webdriver import Keys
    from selenium.webdriver.common.action_chains import ActionChains

    user.open("#preset=ties")
    press = lambda keys: ActionChains(user.driver).send_keys(keys).perform()  # noqa: E731
    press("n")
    user.wait(lambda: user.update == 1)
    press(" ")
    user.wait(lambda: user.update > 3)
    press(" ")
    user.wait(lambda: "Play" in user.text("#play"))
    press("r")
    user.wait(lambda: user.update == 0)
    address = user.driver.current_url
    press(Keys.TAB + Keys.ENTER)  # the first is a link past the presets and the settings
    user.wait(lambda: user.driver.switch_to.active_element.get_attribute("id") == "panels")
    assert user.driver.current_url == address
    user.open("#preset=ties")
    for _ in range(40):
        press(Keys.TAB)
        if user.driver.switch_to.active_element.get_attribute("data-cell") is not None:
            break
    press(Keys.ARROW_DOWN)
    assert "Row 2, column 1, on the target's way" in user.text("#inspector")  # the cell that the keys came to
    press(Keys.ARROW_RIGHT)
    press("f")
    user.wait(lambda: "map=SFF/FFF/FFG" in user.driver.current_url)
    assert user.complaints() == []


def test_no_click_and_no_focus_is_lost_while_the_page_changes(user):
    from selenium.webdriver import Keys

    focus = lambda: user.driver.switch_to.active_element  # noqa: E731
    user.open("#preset=ties")
    user.one("#reset").send_keys(Keys.ENTER)  # the state changes to preparing and back
    user.one("#play").send_keys(Keys.ENTER)
    user.wait(lambda: user.update > 2)
    assert focus().get_attribute("id") == "play"
    focus().send_keys(Keys.SPACE)
    user.wait(lambda: "Play" in user.text("#play"))
    focus().send_keys("r")  # keys work wherever the focus is, except in fields
    user.wait(lambda: user.update == 0)
    user.one('[data-method="orpo"]').send_keys(Keys.SPACE)
    user.wait(lambda: len(user.all(".panel")) == 4)
    assert focus().get_attribute("data-method") == "orpo"
    user.one("#setting-seeds").clear()
    user.one("#setting-seeds").send_keys("4")
    user.click('[data-method="orpo"]')  # leaves the field and chooses in one click
    user.wait(lambda: len(user.all(".panel")) == 3 and "--seeds 4" in user.text("#command"))
    user.one("#setting-seeds").clear()
    user.one("#setting-seeds").send_keys("5")
    user.click("#play")  # before the server has heard of the change
    user.wait(lambda: user.update > 2)
    assert "--seeds 5" in user.text("#command")
    assert "changed on its way" not in user.text("#keep")
    slider = user.one('[data-number="lam"]')
    slider.send_keys(Keys.ARROW_RIGHT * 5)
    user.wait(lambda: "a number changed" in user.text("#keep"))
    user.click("#step")
    user.wait(lambda: "Play" in user.text("#play"))
    assert slider.get_property("value") == user.one('input[type="number"][data-number="lam"]').get_property("value")
    user.one('[data-preset="adam"]').send_keys(Keys.ENTER)
    user.wait(lambda: len(user.all(".panel")) == 4 and user.update == 0)
    assert focus().get_attribute("data-preset") == "adam"
    assert user.complaints() == []


def test_it_fits_on_a_phone(user):
    width, height = PHONE
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
    user.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for preset in ("order", "lambda"):
        user.open(f"#preset={preset}")
        assert user.driver.execute_script("return document.documentElement.scrollWidth") <= width
        wide = "return [...document.querySelectorAll('.panel *, .card > *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"  # noqa: E501
        assert [each for each in user.driver.execute_script(wide) if "<t" not in each] == []
