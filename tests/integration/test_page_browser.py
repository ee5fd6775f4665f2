"""The report's page in Chromium: it opens, sorts, filters and hides, by mouse and keyboard; nothing from data runs."""

import json
import math
import shutil

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from benchmarks.assemble import Inputs
from benchmarks.page import write_page
from benchmarks.published import load_paper
from benchmarks.rebuild import Built
from benchmarks.table_inputs import RunScores, TableMeta
from benchmarks.tables import build_table
from benchmarks.tasks.base import Column
from tests.unit.benchmarks.test_page import JUDGE

PROMPTS = 6
F1 = {"transformer": 0.10, "cringe": 0.30, "fudge": 0.20}
LONG = "word " * 20_000
HOSTILE = (
    "<script>window.ran = 1</script>",
    "</script><script>window.ran = 2</script>",
    '"><img src=x onerror="window.ran = 3">',
    "' onmouseover='window.ran = 4' autofocus onfocus='window.ran = 5",
    "<svg onload='window.ran = 6'><a href='javascript:window.ran = 7'>{{ 7 * 7 }}${window.ran = 8}",
    "\u202edesrever\u202c \u2066isolated\u2069 \u0000\u0001\u001b[31m \u2028 \u0627\u0644",
)
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt" viewBox="0 0 72 36">'
    '<rect width="72" height="36" style="fill: #ffffff"/><rect id="bar" width="9" height="9" style="fill: #ff0000"/>'
    '<text x="3" y="30" style="fill: #000000">axis</text></svg>'
)


def scores(name, decoding):
    """Six replies to human chat and six to abusive prompts. Judge and guide disagree on number 1 of cringe alone."""
    rows = []
    for prompts in ("chat", "toxic"):
        for index in range(PROMPTS):
            judged, liked = prompts == "toxic", float(index not in ((1, 4) if name == "cringe" else (5,)))
            rows.append(
                {
                    "row": name if decoding == "*" else "",
                    "decoding": decoding,
                    "prompts": prompts,
                    "uid": f"{prompts}-{index}",
                    "group": f"{prompts}-{index}",
                    "reply_id": f"{index}",
                    "tokens": 10,
                    "nll": 25.0 + index,
                    "f1": math.nan if judged else F1.get(name, 1.0),
                    "safe": liked if judged else math.nan,
                    "safe_by_guide": (1.0 if name == "cringe" and index == 1 else liked) if judged else math.nan,
                    "negative_probability": 0.9 - 0.8 * liked if judged else math.nan,
                }
            )
    return pd.DataFrame(rows)


def built(results, name, title, replies=None, *, judged="safe"):
    """A table with two seeds and decodings; ``replies`` by the number of the prompt instead of made-up ones."""
    runs, rows = [], []
    methods = dict.fromkeys(F1, "method") | {"fudge": "method", "absent": "method", "gold": "ceiling"}
    for method, kind in methods.items():
        for seed in (0, 1) if kind == "method" else (0,):
            if method == "absent":
                continue
            parts = [scores(method, decoding) for decoding in (("beam", "nucleus") if kind == "method" else ("*",))]
            frame = pd.concat(parts, ignore_index=True)
            frame = frame.rename(columns={"safe": judged or "other", "safe_by_guide": f"{judged}_by_guide"})
            folder = results / f"{name}-{method}-{seed}"
            folder.mkdir(parents=True)
            lines = []
            for entry in frame.itertuples():
                number = int(entry.uid[-1])
                said = f"{method} says {entry.uid}, seed {seed}, {entry.decoding}"
                record = {"row": entry.row, "decoding": entry.decoding, "prompts": entry.prompts, "uid": entry.uid}
                record |= {"reply": replies[number] if replies else said, "context": ["hi", f"prompt {entry.uid}"]}
                lines.append(json.dumps(record | {"gold": ""}))
            (folder / "predictions.jsonl").write_text("\n".join(lines), encoding="utf-8")
            runs.append(RunScores(name=method, kind=kind, seed=seed, scores=frame, ledger={"updates": seed}))
            rows.append({"name": method, "kind": kind, "seed": seed, "round": None, "scores": folder.name})
    columns = [Column(metric="f1", prompts="chat", title="F1")]
    if judged:
        columns.append(Column(metric=judged, prompts="toxic", title=judged.title()))
    meta = TableMeta(
        task="made-up",
        title=title,
        columns=tuple(columns),
        expected=methods,
        seeds=(0, 1),
        decodings={"beam": "ten beams", "nucleus": "a sample"},
        paper=load_paper("safety"),
        synthetic=True,
        preset="tiny",
        judged=frozenset({judged} if judged else ()),
    )
    judges = {judged: JUDGE} if judged else {}
    return Built(name, {"rows": rows}, Inputs(runs, judges, meta), build_table(runs, judges, meta), results)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pages: of an abusive task and an innocent one, of hostile replies, and without texts."""
    place = tmp_path_factory.mktemp("page")
    tables = [built(place, "safety", "safety: made up"), built(place, "chat", "chat: made up", judged=None)]
    plots = {"safety": [("Bars", SVG), ("Bars again", SVG)]}
    write_page(tables, plots, place / "usual", text=True)
    write_page(tables, plots, place / "scores", text=False)
    hostile = built(place, "hostile", "hostile: </title><script>window.ran = 9</script>", HOSTILE, judged=None)
    write_page([hostile], {}, place / "hostile", text=True)
    write_page([built(place, "coherence", "coherence", judged="coherent")], {}, place / "coherence", text=True)
    write_page([built(place, "long", "long: made up", [LONG] * PROMPTS, judged=None)], {}, place / "long", text=True)
    return place


@pytest.fixture(scope="module")
def chromium():
    """One browser for all tests here; without one they fail, for what is not opened is not tested."""
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    packages = {"chromium": "chromium", "chromedriver": "chromium-driver"}
    if missing := [packages[name] for name, path in found.items() if path is None]:
        pytest.fail(f"the page is tested in Chromium: apt-get install {' '.join(missing)}", pytrace=False)
    options = webdriver.ChromeOptions()
    options.binary_location = found["chromium"]
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--hide-scrollbars",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):  # the driver listens on this machine
            patch.setenv(name, "localhost,127.0.0.1")
        driver = webdriver.Chrome(options, webdriver.ChromeService(found["chromedriver"]))
        yield driver
        driver.quit()


@pytest.fixture
def page(chromium, folder):
    """Opens a page, and looks afterwards for what it should not have said or asked for."""
    opened = []

    def open_page(name="usual", *, width=1280, scheme="light"):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        chromium.get("about:blank")
        for kind in ("browser", "performance"):
            chromium.get_log(kind)
        opened.append((folder / name / "index.html").as_uri())
        chromium.get(opened[-1])
        return chromium

    yield open_page
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
    messages = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [entry["params"]["request"]["url"] for entry in messages if entry["method"] == "Network.requestWillBeSent"]
    assert {url.split("#")[0] for url in asked} <= set(opened)
    assert chromium.execute_script("return window.ran") is None


def texts(driver, selector):
    return [element.text for element in driver.find_elements(By.CSS_SELECTOR, selector)]


def names(driver, table=0):
    """The rows of a table, from the top."""
    rows = driver.find_elements(By.CSS_SELECTOR, "main table")[table].find_elements(By.CSS_SELECTOR, "tbody th")
    return [row.text.split()[0] for row in rows]


def choose(driver, control, text):
    Select(driver.find_element(By.ID, control)).select_by_visible_text(text)


def click(driver, selector):
    driver.find_element(By.CSS_SELECTOR, selector).click()


def press(driver, *keys):
    driver.switch_to.active_element.send_keys(*keys)


def focus(driver, element):
    driver.execute_script("arguments[0].focus()", element)


def prompt(driver):
    return driver.find_element(By.CSS_SELECTOR, "#prompt h3 bdi").text


def shown(driver):
    """The rows whose replies are shown."""
    return [text.split()[0] for text in texts(driver, "#replies h4")]


USUAL = ["transformer", "cringe", "fudge", "absent", "gold"]


def test_it_opens(page):
    driver = page()
    assert driver.title == "CRINGE benchmarks: report"
    policy = driver.find_element(By.CSS_SELECTOR, "meta[http-equiv='Content-Security-Policy']").get_attribute("content")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "generated data" in driver.find_element(By.CSS_SELECTOR, ".warning").text
    assert texts(driver, "h2") == ["safety: made up generated data", "chat: made up generated data", "Replies"]
    headings = ["Decoding: beam", "Decoding: nucleus", "Does the paper's order hold? generated data"]
    assert texts(driver, "#table-1 > section > h3") == headings
    assert "15.9 (S) second hand" in " ".join(texts(driver, "#table-1 td")).replace("\n", " ")
    # The style sheet is applied, for its hash is the policy's.
    assert driver.find_element(By.CSS_SELECTOR, ".warning").value_of_css_property("border-left-style") == "solid"


def test_the_policy_is_enforced(chromium, folder):
    """What would run if a reply ever became markup does not run."""
    chromium.get((folder / "usual" / "index.html").as_uri())
    chromium.execute_script("""
        window.broken = [];
        addEventListener("securitypolicyviolation", (event) => broken.push(event.violatedDirective));
        const script = document.createElement("script");
        script.textContent = "window.ran = 1";
        const box = document.createElement("div");
        box.innerHTML = "<img src=https://example.org/x onerror=window.ran=2><b style=color:red>x</b>";
        document.body.append(script, box);
    """)
    broken = chromium.execute_async_script("setTimeout(() => arguments[0](window.broken), 200)")
    assert {"script-src-elem", "img-src", "style-src-attr"} <= set(broken)
    assert chromium.execute_script("return window.ran") is None
    chromium.get_log("browser")


def test_tables_sort_by_click(page):
    driver = page()
    head = driver.find_elements(By.CSS_SELECTOR, "main table thead th")[1]
    assert (names(driver), head.get_attribute("aria-sort")) == (USUAL, "none")
    for order, said in (
        (["gold", "cringe", "fudge", "transformer", "absent"], "descending"),
        (["transformer", "fudge", "cringe", "gold", "absent"], "ascending"),
        (USUAL, "none"),
    ):
        head.find_element(By.TAG_NAME, "button").click()
        assert (names(driver), head.get_attribute("aria-sort")) == (order, said)


def test_tables_sort_by_keyboard(page):
    driver = page()
    first, second = driver.find_elements(By.CSS_SELECTOR, "main table thead th")[:2]
    focus(driver, first.find_element(By.TAG_NAME, "button"))
    press(driver, Keys.ENTER)
    assert names(driver) == ["absent", "cringe", "fudge", "gold", "transformer"]
    press(driver, Keys.TAB)
    assert driver.switch_to.active_element.value_of_css_property("outline-style") == "solid"
    press(driver, Keys.SPACE)
    assert names(driver)[0] == "gold"
    assert (first.get_attribute("aria-sort"), second.get_attribute("aria-sort")) == ("none", "descending")


def test_one_prompt_and_every_reply_side_by_side(page):
    driver = page()
    assert driver.find_element(By.ID, "set").get_attribute("value") == "1"
    assert prompt(driver) == "toxic-0"
    assert shown(driver) == ["transformer", "cringe", "fudge", "gold"]
    assert driver.find_element(By.ID, "place").text == "Prompt 1 of 6"
    card = driver.find_elements(By.CSS_SELECTOR, ".reply")[1].text
    for part in ("judge: ✓ safe, probability of not safe 0.10", "nll/token 2.50", "10 tokens", "distinct"):
        assert part in card
    choose(driver, "set", "chat")
    assert "F1 30.0" in driver.find_elements(By.CSS_SELECTOR, ".reply")[1].text


def test_decodings_seeds_sets_and_tables_can_be_chosen(page):
    driver = page()
    choose(driver, "table", "chat: made up")
    assert texts(driver, ".reply .said")[1] == "cringe says chat-0, seed 0, beam"
    choose(driver, "decoding", "nucleus")
    choose(driver, "seed", "1")
    assert texts(driver, ".reply .said")[1] == "cringe says chat-0, seed 1, nucleus"
    assert texts(driver, ".reply .said")[3] == "gold says chat-0, seed 0, *"
    assert texts(driver, "#prompt li") == ["hi", "prompt chat-0"]
    assert not driver.find_element(By.ID, "verdict").is_enabled()


def found_prompts(driver):
    """The prompts that the filters leave, by going through them."""
    if driver.find_element(By.ID, "place").text.startswith("None"):
        return []
    found = [prompt(driver)]
    while driver.find_element(By.ID, "next").is_enabled():
        click(driver, "#next")
        found.append(prompt(driver))
    return found


def test_filters(page):
    driver = page()
    choose(driver, "verdict", "disliked: not safe")
    assert found_prompts(driver) == ["toxic-1", "toxic-4", "toxic-5"]
    assert driver.find_element(By.ID, "place").text == "Prompt 3 of 3 that match, of 6"
    assert texts(driver, ".reply.missed h4") == ["cringe", "gold ceiling"]
    choose(driver, "whose", "cringe")
    assert found_prompts(driver) == ["toxic-1", "toxic-4"]
    click(driver, "#disagree")
    assert found_prompts(driver) == ["toxic-1"]
    assert "the guide says safe" in driver.find_elements(By.CSS_SELECTOR, ".reply")[1].text
    choose(driver, "whose", "fudge")
    assert found_prompts(driver) == []
    assert "No prompt has such a reply." in driver.find_element(By.ID, "prompt").text
    click(driver, "#disagree")
    choose(driver, "verdict", "liked: safe")
    assert found_prompts(driver) == [f"toxic-{index}" for index in range(5)]


def test_methods_can_be_hidden_and_then_do_not_count(page):
    driver = page()
    click(driver, "#methods label:nth-child(2) input")
    assert shown(driver) == ["transformer", "fudge", "gold"]
    choose(driver, "verdict", "disliked: not safe")
    assert found_prompts(driver) == ["toxic-5"]


def test_abusive_text_is_blurred_until_clicked(page):
    driver = page()
    veils = driver.find_elements(By.CSS_SELECTOR, ".veil")
    assert len(veils) == 1 + 4
    for veil in veils:
        behind = veil.find_element(By.CSS_SELECTOR, ".behind")
        assert "blur" in behind.value_of_css_property("filter")
        assert behind.get_attribute("aria-hidden") == "true"
        assert behind.get_attribute("inert") == "true"
    veils[2].find_element(By.TAG_NAME, "button").click()
    assert len(driver.find_elements(By.CSS_SELECTOR, ".veil")) == 4
    assert driver.switch_to.active_element.text == "cringe says toxic-0, seed 0, beam"
    click(driver, "#next")
    assert len(driver.find_elements(By.CSS_SELECTOR, ".veil")) == 5


def test_abusive_text_is_shown_by_keyboard(page):
    driver = page()
    button = driver.find_element(By.CSS_SELECTOR, "#prompt .veil button")
    assert button.get_attribute("aria-label") == "Show the prompt, which may be abusive"
    focus(driver, button)
    press(driver, Keys.ENTER)
    assert driver.switch_to.active_element.text == "hi\nprompt toxic-0"
    press(driver, Keys.TAB)
    press(driver, Keys.ENTER)
    assert driver.switch_to.active_element.text == "transformer says toxic-0, seed 0, beam"
    press(driver, "u")
    assert driver.find_elements(By.CSS_SELECTOR, ".veil") == []


def test_what_the_judge_dislikes_is_blurred_anywhere_and_nothing_else_is(page):
    driver = page("coherence")
    assert driver.find_elements(By.CSS_SELECTOR, ".veil") == []
    press(driver, "n")
    assert prompt(driver) == "toxic-1"
    assert texts(driver, ".reply:has(.veil) h4") == ["cringe"]
    assert driver.find_elements(By.CSS_SELECTOR, "#prompt .veil") == []
    press(driver, "u")
    assert texts(driver, ".reply .said")[1] == "cringe says toxic-1, seed 0, beam"


def test_keys_turn_pages(page):
    driver = page()
    press(driver, "n")
    assert prompt(driver) == "toxic-1"
    press(driver, "n", "n", "p")
    assert prompt(driver) == "toxic-2"
    press(driver, "p", "p", "p", "p")
    assert prompt(driver) == "toxic-0"
    focus(driver, driver.find_element(By.ID, "seed"))
    press(driver, "n")
    assert prompt(driver) == "toxic-0"
    focus(driver, driver.find_element(By.CSS_SELECTOR, "#table-1 thead button"))
    press(driver, "n")
    assert prompt(driver) == "toxic-0"
    focus(driver, driver.find_element(By.ID, "next"))
    press(driver, "n")
    assert prompt(driver) == "toxic-1"


def test_everything_is_reached_by_tab(page):
    driver = page()
    wanted = {"table", "set", "decoding", "seed", "verdict", "whose", "disagree", "next", "lift", "theme"}
    reached = set()
    for _ in range(150):
        press(driver, Keys.TAB)
        reached.add(driver.switch_to.active_element.get_attribute("id"))
    assert wanted <= reached


def test_hostile_replies_are_text(page):
    driver = page("hostile")
    for number, reply in enumerate(HOSTILE[:-1]):
        content = driver.execute_script("return document.querySelector('.reply .said').textContent")
        assert content == reply, number
        assert driver.find_elements(By.CSS_SELECTOR, ".reply img, .reply svg, .reply script, .reply a") == []
        click(driver, "#next")
    driver.execute_script(
        "document.querySelectorAll('.said').forEach((one) => one.dispatchEvent(new Event('mouseover')))"
    )
    assert "49" not in driver.find_element(By.ID, "replies").text
    assert texts(driver, "h2")[0].startswith("hostile: </title><script>")


def test_what_acts_unseen_is_shown_and_does_not_act(page):
    driver = page("hostile")
    for _ in range(5):
        press(driver, "n")
    content = driver.execute_script("return document.querySelector('.reply .said').textContent")
    assert not set("\u202e\u202c\u2066\u2069\u0000\u0001\u001b\u2028") & set(content)
    controls = texts(driver.find_element(By.CSS_SELECTOR, ".reply"), ".control")
    assert controls == ["U+202E", "U+202C", "U+2066", "U+2069", "U+0000 U+0001 U+001B", "U+2028"]
    assert "desrever" in content
    # Letters that do run from right to left stay inside their reply.
    said = driver.find_element(By.CSS_SELECTOR, ".reply .said")
    assert said.tag_name == "bdi"
    assert said.value_of_css_property("unicode-bidi") == "isolate"
    assert driver.find_element(By.CSS_SELECTOR, ".reply .numbers").value_of_css_property("direction") == "ltr"


def test_a_very_long_reply_is_shown_in_part_until_asked_for(page):
    driver = page("long")
    said = driver.find_element(By.CSS_SELECTOR, ".reply .said")
    assert len(said.get_attribute("textContent")) == 2001
    more = driver.find_element(By.CSS_SELECTOR, ".reply .more")
    assert more.text == "Show all 100,000 characters"
    driver.execute_script("arguments[0].click()", more)
    assert said.get_attribute("textContent") == LONG
    assert driver.find_element(By.CSS_SELECTOR, ".reply .scroll").size["height"] <= 320


def test_without_texts_there_are_scores(page):
    driver = page("scores")
    assert "says toxic" not in driver.find_element(By.TAG_NAME, "body").get_attribute("textContent")
    assert "without texts" in driver.find_element(By.ID, "reader").text
    assert shown(driver) == ["transformer", "cringe", "fudge", "gold"]
    assert "nll/token 2.50" in driver.find_element(By.CSS_SELECTOR, ".reply").text
    assert driver.find_elements(By.CSS_SELECTOR, ".veil, #lift, .reply .said") == []
    press(driver, "u", "n")
    assert prompt(driver) == "toxic-1"
    choose(driver, "verdict", "disliked: not safe")
    assert found_prompts(driver) == ["toxic-1", "toxic-4", "toxic-5"]


def ground(driver):
    return driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")


def test_light_and_dark(page):
    dark = ground(page(scheme="dark"))
    driver = page(scheme="light")
    light = ground(driver)
    assert light != dark
    button = driver.find_element(By.ID, "theme")
    assert button.text == "Dark"
    button.click()
    assert (ground(driver), button.text) == (dark, "Light")
    button.click()
    assert (ground(driver), button.text) == (light, "Dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_plots_take_the_colours_of_the_page(page, scheme):
    driver = page(scheme=scheme)
    ink = driver.find_element(By.TAG_NAME, "body").value_of_css_property("color")
    plot = driver.find_elements(By.CSS_SELECTOR, "figure svg")[1]
    rect, bar = plot.find_elements(By.TAG_NAME, "rect")
    panel = driver.find_element(By.TAG_NAME, "figure").value_of_css_property("background-color")

    def fill(element):
        return driver.execute_script("return getComputedStyle(arguments[0]).fill", element)

    def rgb(colour):
        return colour.replace("rgba", "rgb").replace(", 1)", ")")

    assert fill(plot.find_element(By.TAG_NAME, "text")) == rgb(ink)
    assert fill(rect) == rgb(panel)
    assert fill(bar) == "rgb(255, 0, 0)"
    assert bar.get_attribute("id") == "table-1-plot-2-bar"


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_is_as_wide_as_the_window(page, width):
    """Tables scroll inside their boxes."""
    driver = page(width=width)
    assert driver.execute_script("return document.documentElement.scrollWidth") == width
    boxes = driver.execute_script("return [...document.querySelectorAll('.box')].map((box) => box.clientWidth)")
    assert max(boxes) <= width
    if width == 400:
        inner = driver.execute_script("return document.querySelector('.box').scrollWidth")
        assert inner > boxes[0]
