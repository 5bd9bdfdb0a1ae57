"""The page of a run: what is on it, that it runs no text of the run's, and in a browser that its slider moves things."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_cli.__main__ import main
from diffusion_cli.dataset.plane import Ring
from diffusion_cli.dataset.units import Units
from diffusion_cli.figures.page import Card, Page, Table, picture, pictures, policy_hash
from diffusion_cli.figures.recipes.page import densities, tables
from diffusion_cli.figures.reverse import FULL, Process
from diffusion_cli.schedule import loglinear

HOSTILE = [
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=1">',
    "' onload='document.title=1",
    "<!-- <script>",
    "{{ 7 * 7 }}{% raw %}",
    "\u2028\u2029\x0b]]>",
    "</style></title></pre><svg onload=alert(1)>",
]
SMALL = ["steps=20", "model.width=16", "stages.every=0", "device=cpu", "plots=false"]


class Elements(HTMLParser):
    """Tags with their attributes, the texts of scripts, and all other text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text, self.inside = "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data
        else:
            self.text += data


def process(kind: str, seed: int = 0, **more) -> Process:
    random = np.random.default_rng(seed)
    shape = {
        "line": (40, 1),
        "plane": (40, 2),
        "sets": (3, 30, 2),
        "images": (4, 1, 6, 5),
        "colour": (4, 3, 6, 5),
    }[kind]
    x = random.normal(size=(7, *shape)) * np.linspace(1, 0.3, 7).reshape(-1, *[1] * len(shape))
    options = {
        "kind": {"colour": "images"}.get(kind, kind),
        "times": list(range(6, -1, -1)),
        "T": 6,
        "ratios": [9, 5, 3, 1, 0.5, 0.1, 0],
        "x": x,
        "limits": (-4.0, 4.0),
    }
    return Process(**options | more)


def decoded(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def test_positions_come_back_from_the_page():
    p = process("plane", outline=[np.array([[0.0, 1.0], [2.0, -4.0]])])
    data = json.loads(json.dumps(p.data))
    values = decoded(data["views"]["x"], "<u2").reshape(p.x.shape) / FULL * 8 - 4
    assert np.abs(values - p.x.clip(-4, 4)).max() < 1e-4
    assert np.abs(decoded(data["outline"][0], "<u2") / FULL * 8 - 4 - [0, 1, 2, -4]).max() < 1e-4
    assert data["count"] == 40 and data["panels"] == 1 and data["aspect"] == 1


def test_pixels_come_back_from_the_page():
    p = process("colour", label=np.array([3, 1, 2, 0]), names=list("abcd"))
    values = decoded(p.data["views"]["x"], "u1").reshape(p.x.shape)
    assert np.abs(values / 127.5 - 1 - p.x.clip(-1, 1)).max() < 0.004
    assert p.data["shape"] == [3, 6, 5] and p.data["columns"] == 2 and p.data["label"] == [3, 1, 2, 0]


def test_not_finite_is_no_point_in_the_middle():
    p = process("plane")
    p.x[3, 0] = np.nan
    assert (decoded(p.data["views"]["x"], "<u2").reshape(p.x.shape)[3, 0] == FULL).all()


def test_zoom_holds_the_final_samples():
    p = process("plane")
    low, high = (edge / FULL * 8 - 4 for edge in p.data["zoom"])
    assert low < p.x[-1].min() and p.x[-1].max() < high and high - low < 0.75 * 8
    assert process("plane", limits=(-1.0, 1.0)).data["zoom"] is None


def test_density_is_the_exact_one_and_sums_to_one():
    """Against the density itself where it is wide, and in its total even where it is thinner than a cell."""
    schedule, ring = loglinear(T=10), Ring(1.0)
    levels = [schedule.level(t, like=torch.zeros(1)) for t in (8, 1)]
    grid = densities(ring, levels, (-4.0, 4.0), 64, 2, Units())
    side = 8 / 64
    assert grid[1].sum() * side**2 == pytest.approx(1, abs=1e-3)
    at = torch.tensor([[10.5 * side - 4, 30.5 * side - 4]], dtype=torch.float64)  # column 10, row 30
    sigma = torch.sqrt(levels[0].sigma ** 2 + (0.6 * side) ** 2)
    assert grid[0, 30, 10] == pytest.approx(float(ring.log_prob(at, levels[0].alpha, sigma).exp()))


def card(texts: list[str]) -> Card:
    a, b, c, d, e, f, g, h = texts
    return Card(a, b, c, d, e, None, [(f, g)], [(h, a, b, True)])


def hostile_page() -> Page:
    return Page(
        title=HOSTILE[0], cards=[card(HOSTILE)], subtitle=HOSTILE,
        process=process("images", label=np.arange(4), names=HOSTILE[:4], note=HOSTILE[2]),
        tables=[Table(HOSTILE, [HOSTILE], HOSTILE[1])], details=dict.fromkeys(HOSTILE, "\n".join(HOSTILE)),
    )  # fmt: skip


def test_no_text_of_a_run_becomes_markup():
    html = hostile_page().html({"run": HOSTILE[2], "config": HOSTILE[0]})
    plain = Page(
        title="t", cards=[card(list("abcdefgh"))], subtitle=["s"] * 8,
        process=process("images", label=np.arange(4), names=list("abcd"), note="n"),
        tables=[Table(["h"] * 8, [["c"] * 8], "c")], details={str(k): "d" for k in range(8)},
    ).html({"run": "r", "config": "c"})  # fmt: skip
    ours, theirs = Elements(html), Elements(plain)
    assert [tag for tag, _ in ours.tags] == [tag for tag, _ in theirs.tags]
    assert not [name for _, attributes in ours.tags for name in attributes if name.startswith("on")]
    data, script = ours.scripts
    assert json.loads(data)["names"] == HOSTILE[:4]
    assert script == theirs.scripts[1]
    for text in HOSTILE:
        assert text in ours.text  # shown as it is
    policy = next(a["content"] for tag, a in ours.tags if a.get("http-equiv"))
    assert (
        policy.startswith("default-src 'none'; img-src data:")
        and f"script-src 'sha256-{policy_hash(script)}'" in policy
    )
    assert "unsafe" not in policy


def test_pictures_are_read_as_png_only(tmp_path):
    Image.new("RGB", (2000, 500), "white").save(tmp_path / "a_b.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "c.gif")
    (tmp_path / "c.gif").rename(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes((tmp_path / "a_b.png").read_bytes()[:60])
    (tmp_path / "e.png").write_text("<svg onload=alert(1)>")
    assert list(pictures({file.stem: file for file in sorted(tmp_path.glob("*.png"))})) == ["a_b"]
    with pytest.raises(ValueError, match="no PNG"):
        picture(tmp_path / "c.png")
    source = picture(tmp_path / "a_b.png")[0]
    assert source.broad and source.source.startswith("data:image/png;base64,")


def test_tables_of_any_summary():
    measured, modes, plain = tables(
        {
            "w2": {"value": 0.12345, "ratio": None},
            "acc": {"value": 1.0, "n": 7},
            "modes": [{"mean": [1.0, 2.0]}],
            "x": "<b>",
            "extractor": {"name": "judge", "accuracy": 0.98765},
        }
    )
    assert measured.head == ["metric", "value", "ratio", "n"]
    assert measured.rows == [["w2", "0.1235", "–", ""], ["acc", "1", "", "7"]]
    assert modes.rows == [["0", "1 2"]] and plain.rows == [
        ["x", "<b>"],
        ["extractor", "name judge, accuracy 0.9877"],
    ]
    assert tables(None) == tables([]) == tables({}) == []


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "dataset=gmm2px", *SMALL, "hydra.run.dir='<b>run'"]) == 0
        assert main(["plot", "figure=loss", "run='<b>run'", "hydra.run.dir='<b>run/figures'"]) == 0
        assert main(["plot", "figure=report", "run='<b>run'", "figure.n=300", "hydra.run.dir=page"]) == 0
    return folder


def test_the_page_of_a_run(home):
    html = (home / "page" / "report.html").read_text()
    page = Elements(html)
    data = json.loads(page.scripts[0])
    assert len(data["times"]) == 51 and data["times"][0] == 50 and data["times"][-1] == 0
    assert set(data["views"]) == {"x", "x0"} and data["count"] == 300 and data["names"] == ["0", "1"]
    assert "<b>run" in page.text and "b" not in {tag for tag, _ in page.tags}
    assert len(html) < 3_000_000
    assert "loss" in page.text and sum(tag == "img" for tag, _ in page.tags) == 1
    assert not re.findall(r"(?:src|href)=\"(?!data:)", html)
    facts = {a["name"]: a["content"] for tag, a in page.tags if tag == "meta" and "name" in a}
    assert (
        facts["seed"] == "0" and len(facts["config"]) == 16 and facts["Software"].startswith("diffusion_cli ")
    )


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium here")
    with sync_api.sync_playwright() as play:
        started = play.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
            ],
        )
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """Opens a file; the page knows what went wrong in it, and what it asked the network for."""

    def go(file):
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.set_default_timeout(10_000)
        page.wrong = []
        page.on("console", lambda message: page.wrong.append(message.text))
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on(
            "request", lambda r: None if r.url.startswith(("data:", "file:")) else page.wrong.append(r.url)
        )
        page.goto(file.as_uri())
        return page

    return go


PIXELS = "() => document.getElementById('canvas').toDataURL()"


def test_the_slider_moves_the_samples(home, visit):
    page = visit(home / "page" / "report.html")
    noise = page.evaluate(PIXELS)
    assert page.inner_text("#where").startswith("t = 50 of 50")
    page.focus("#slider")
    page.keyboard.press("End")
    data = page.evaluate(PIXELS)
    assert page.inner_text("#where").startswith("t = 0 of 50") and data != noise
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute("#slider", "aria-valuetext").startswith("t = 1 of 50")
    page.locator("#strip button").first.click()
    assert page.evaluate(PIXELS) == noise
    box = page.locator("#slider").bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.up()
    assert 15 < int(page.input_value("#slider")) < 35
    before = page.evaluate(PIXELS)
    for option in ("truth", "trails", "guess"):
        page.locator(f"#show-{option}").click()
        assert page.evaluate(PIXELS) != before
        before = page.evaluate(PIXELS)
    page.click("#play")
    assert page.inner_text("#play") == "Pause"
    page.wait_for_function(
        "frame => Number(document.getElementById('slider').value) > frame", arg=35, timeout=8000
    )
    page.locator("#canvas").click()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press(" ")
    assert page.inner_text("#play") == "Play"
    assert page.evaluate(
        "document.documentElement.scrollWidth <= innerWidth"
    )  # nothing hangs over on a phone
    assert page.wrong == []
    page.close()


def test_the_slider_is_in_view_on_a_laptop_and_the_page_follows_the_dark(home, visit):
    page = visit(home / "page" / "report.html")
    page.set_viewport_size({"width": 1280, "height": 800})
    for name in ("#canvas", "#play", "#slider"):
        box = page.locator(name).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 800, name
    seen = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        style = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
        ground, ink = page.eval_on_selector("body", style)
        numbers = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in (ground, ink)]
        seen[scheme] = numbers[0] - numbers[1]
        # figures are drawn in dark ink
        assert page.eval_on_selector("#canvas", style)[0] == "rgb(255, 255, 255)"
    assert seen["light"] > 450 and seen["dark"] < -450
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    assert not page.wrong


def test_cards_fit_a_phone_and_stand_side_by_side_on_a_desk(visit, tmp_path):
    long = "metrics.a_metric_with_a_very_long_name=" + "0123456789" * 9
    (tmp_path / "page.html").write_text(Page("runs", cards=[card([long] * 8), card([long] * 8)]).html())
    page = visit(tmp_path / "page.html")
    for width, columns in ((360, 1), (1280, 2)):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        boxes = [found.bounding_box() for found in page.locator("article").all()]
        assert len({box["x"] for box in boxes}) == columns
    assert page.wrong == []
    page.close()


@pytest.mark.parametrize("kind", ["line", "plane", "sets", "images", "colour"])
def test_every_kind_is_drawn(kind, visit, tmp_path):
    more = {"density": np.random.default_rng(0).random((7, 50))} if kind == "line" else {}
    (tmp_path / "page.html").write_text(
        Page(kind, process=process(kind, x0=process(kind, 1).x, **more)).html()
    )
    page = visit(tmp_path / "page.html")
    noise = page.evaluate(PIXELS)
    page.focus("#slider")
    page.keyboard.press("End")
    data = page.evaluate(PIXELS)
    assert data != noise
    if kind in ("plane", "sets"):
        page.click("#show-zoom")
        assert page.evaluate(PIXELS) != data
    assert page.wrong == []
    page.close()


def test_a_browser_runs_no_text_of_a_run(visit, tmp_path):
    (tmp_path / "page.html").write_text(hostile_page().html({"run": HOSTILE[0]}))
    page = visit(tmp_path / "page.html")
    assert page.title() == HOSTILE[0] and page.wrong == []
    # Even markup that did get in is not run: the policy knows our script alone.
    html = (tmp_path / "page.html").read_text().replace("<main>", f"<main>{HOSTILE[0]}")
    (tmp_path / "worse.html").write_text(html)
    page = visit(tmp_path / "worse.html")
    assert page.title() == HOSTILE[0]
    assert len(page.wrong) == 1 and "Content Security Policy" in page.wrong[0]
    page.close()
