"""Packs hold what kpnb counts, and the explorer counts the same, in a browser too."""

import json
import shutil
from itertools import product

import pytest
from committed import committed
from made_results import comparison, run
from packs import committed_packs, made_pack
from studied import MODALITIES

from book.make import explorer, forest
from book.make.frame import NOTHING, frame
from book.make.pack import PER_NAT
from kpnb.errors import KpnbError
from kpnb.metrics.evidence import Choices, difference
from kpnb.paper import METRICS

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
THRESHOLDS = ("0.15", "0.2", "0.25")
ADDRESS = "https://github.com/a/b"


@pytest.fixture(scope="module")
def image(all_studies):
    return made_pack(all_studies("image"))


def test_a_pack_with_another_count_or_too_large_is_refused(image, tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path))
    assert explorer.read_packs() == [] and explorer.page(frame([]), [], ADDRESS) == NOTHING
    (tmp_path / "pack").mkdir()
    path = tmp_path / "pack" / "image_a.json"
    path.write_text(json.dumps(image))
    assert len(explorer.read_packs()) == 1
    monkeypatch.setattr(explorer, "MOST", 1000)
    with pytest.raises(KpnbError, match="the page holds 1000"):
        explorer.read_packs()
    wrong = json.loads(path.read_text())
    wrong["layers"]["FC1"]["S"]["counted"]["0.2"]["n_bg"][1][2] += 1
    for text in (json.dumps(wrong), "{}", "no json"):
        path.write_text(text)
        with pytest.raises(KpnbError, match="image_a.json is no pack of this version"):
            explorer.read_packs()


# Verdicts


def results(pack_, threshold=0.2, notes=(), unfit=False, **changes):
    """Results of the study of a pack: an interval above 0 at three thresholds."""
    where = {"network": pack_["network"], "scale": pack_["scale"], "dataset": pack_["dataset"]}
    where["layer"] = next(iter(pack_["layers"]))
    found = [
        comparison("n_fg", low, low + 2, threshold=b, unfit=unfit, **where)
        for b, low in ((0.15, 1.0), (threshold, 2.0), (0.25, -1.0))
    ]
    found.append(comparison("n_fg", 5.0, 6.0, selection="published_filter", **where))
    settings = pack_["run"]["settings"] | changes
    return run(preset="smoke", settings=settings, comparisons=found, notes=list(notes))


def test_verdicts_are_those_of_the_packs_own_study_at_each_threshold(image):
    rows = frame([results(image, grid=4), results(image), results(image)])
    found = explorer.verdicts(rows, image, ADDRESS)
    told = {one["b"]: (one["difference"], one["verdict"]) for one in found if "fg" in one["metric"]}
    assert (
        len(told) == PER_NAT
        and told[30][1] == "· one seed"
        and told[20] == ("+3.00 [+2.00, +4.00]", "✓ supported")
    )
    assert told[15][0].startswith("+2.00") and told[25][1] == "○ undecided"
    assert found[0]["metric"] == "H1: <i>N</i><sub>fg</sub>" and found[0]["unfit"] == ""
    assert explorer.verdicts(frame([results(image, grid=4)]), image, ADDRESS) == []
    why = "FC1 is not measurable: the student did not learn."
    unfit = explorer.verdicts(frame([results(image, notes=[why], unfit=True)]), image, ADDRESS)
    assert {(one["verdict"], one["unfit"]) for one in unfit} == {("– not measurable", why)}


def test_decisions_at_every_b_are_those_that_a_notebook_makes(image, all_studies):
    """By another way: the estimate of each metric, at thresholds of which none is Table III's."""
    evidence = all_studies("image").evidence
    held = image["decided"][evidence.layer]
    assert {*held} == {*METRICS}
    for metric, b in product(METRICS, (1, 33, 100)):
        found = difference(evidence, metric, Choices(b / PER_NAT))
        value, low, high, verdict = held[metric]["at"][b - 1]
        assert value == pytest.approx(found.value, rel=1e-3)
        assert (low, high, verdict) == (None, None, "one seed")


def test_tables_of_a_study_lead_to_its_pack(image):
    rows, other = frame([results(image)]), image | {"network": "AlexNet"}
    told = forest.forest_fragments(rows, explorer.links([other, image]))["verdicts_h1"]
    assert f"explorer.html?modality=image&network={image['network']}&role=student&b=0.2" in told
    assert "explorer" not in str(forest.forest_fragments(rows, explorer.links([other])))


# What is committed


def test_committed_packs_decide_as_the_results_files_do(monkeypatch):
    for one, study in committed_packs(monkeypatch):
        said = [(found, c) for found in study for c in found.comparisons
                if c.selection == "all" and c.distance in (None, "epoch")]  # fmt: skip
        assert len(said) >= 3 * len(METRICS)  # of a layer, at three b
        for _, told in said:
            held = one["decided"][told.layer][told.metric]
            *ends, verdict = held["at"][round(told.threshold * PER_NAT) - 1]
            assert ends == pytest.approx([told.difference, told.low, told.high], rel=1e-3)
            assert told.verdict in (verdict, "not measurable")
            assert (held["samples"], held["seeds"]) == (told.n_samples, told.n_seeds)


def test_a_pack_is_as_fresh_as_the_results_that_have_its_very_counts(
    monkeypatch,
):
    rows, packs = committed(), [one for one, _ in committed_packs(monkeypatch)]
    for one in packs:
        held = explorer.held_by(rows, one)
        assert len(held) == sum(len(roles) for roles in one["layers"].values()) > 0
        assert {row["file"] for row in held}.isdisjoint({one["file"]})
        told = explorer._about(one, rows, ADDRESS)["about"]
        assert "Its counts on the object at the end of training" in told
    other = json.loads(json.dumps(packs[0]))
    layer = next(iter(other["layers"]))
    other["layers"][layer]["S"]["counted"]["0.2"]["n_fg"][-1][0] += 1
    assert explorer.held_by(rows, other) == []
    assert "Against the code here: " in explorer._about(other, rows, ADDRESS)["about"]


# In a browser


@pytest.fixture(scope="module")
def packs(image, all_studies):
    return [image, *(made_pack(all_studies(kind)) for kind in MODALITIES[1:])]


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("needs Chromium")
    driver = pytest.importorskip("playwright.sync_api")
    with driver.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def write_page(path, rows, packs_):
    """The explorer's part of the page alone, as a file."""
    body = explorer.page(rows, packs_, ADDRESS)
    html = "\n".join(body.splitlines()[1:-1])
    path.write_text(f"<!doctype html><meta charset=utf-8>{html}", encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def address(packs, tmp_path_factory):
    why = "FC1 is not measurable: the student did not learn."
    texts, rows = packs[1], packs[0]
    made = [results(rows), results(texts, notes=[why.replace("FC1", "Last")], unfit=True)]
    return write_page(tmp_path_factory.mktemp("page") / "page.html", frame(made), packs)


@pytest.fixture
def page(browser, address):
    """The page at the width of a phone; it asks for nothing but itself, and no script fails."""
    shown, asked, failed = browser.new_page(viewport={"width": 390, "height": 800}), [], []
    shown.on("request", lambda request: asked.append(request.url))
    shown.on("pageerror", lambda error: failed.append(error))
    shown.goto(address)
    yield shown
    shown.close()
    assert not failed and all(url.startswith(("file:", "data:")) for url in asked)


# Each state in turn by its address; the table's numbers, role -> metric -> value, null for none.
READ = """(states) => states.map((state) => {
  history.replaceState(null, "", "#" + new URLSearchParams(state));
  window.dispatchEvent(new HashChangeEvent("hashchange"));
  const rows = [...document.querySelectorAll("#explorer .counts tbody tr")];
  return Object.fromEntries(rows.map((row) => [row.dataset.role, Object.fromEntries(
    [...row.querySelectorAll("td")].map((cell) => [cell.dataset.metric,
      cell.dataset.value === "NaN" ? null : Number(cell.dataset.value)]))]));
})"""


def compare(page, pack_, epochs=None):
    """What the page counts of every sample, at three thresholds, against what kpnb did."""
    for layer, roles in pack_["layers"].items():
        which = range(len(pack_["samples"])), THRESHOLDS, epochs or roles["S"]["epochs"]
        cases = list(product(*which))
        shared = {n: pack_[n] for n in ("modality", "network")} | {
            "role": "student",
            "layer": layer,
        }
        states = [shared | {"sample": n, "b": b, "epoch": e} for n, b, e in cases]
        shown = page.evaluate(READ, states)
        for (n, b, epoch), numbers in zip(cases, shown, strict=True):
            assert numbers.keys() == roles.keys()
            for role, held in roles.items():
                told, place = held["counted"][b], -1
                if epoch in held["epochs"][:-1]:
                    place = held["epochs"].index(epoch)
                want = {name: told[name][place][n] for name in ("n_fg", "n_bg")}
                fg, bg = want.values()
                want["lambda"] = None if fg is None else fg / max(1, fg + bg)
                want["rho"] = told["rho"] and told["rho"][n]
                assert numbers[role] == want, (layer, role, n, b, epoch)
                if place == -1:
                    assert want["lambda"] == told["lambda"][n]


@pytest.mark.long
def test_the_page_counts_as_kpnb_in_every_modality(page, packs):
    for one in packs:
        compare(page, one)


@pytest.mark.long
def test_the_page_counts_as_kpnb_in_the_committed_packs(browser, tmp_path, monkeypatch):
    monkeypatch.delenv("KPNB_RESULTS", raising=False)
    packs = explorer.read_packs()
    with browser.new_page() as shown:
        shown.goto(write_page(tmp_path / "page.html", frame([]), packs))
        for one in packs:
            compare(shown, one, [*one["layers"].values()][0]["S"]["epochs"][::7])


@pytest.mark.long
def test_the_address_carries_the_state_both_ways(page, packs):
    find = page.locator
    page.evaluate("location.hash = 'modality=sentence&sample=2&role=baseline&epoch=1&b=0.31'")
    page.wait_for_function("document.querySelector('[name=b]').value === '31'")
    assert find("[name=sample]:checked").input_value() == "2"
    assert find("[name=role]:checked").input_value() == "B"
    assert find("output[for=explorer-epoch]").text_content() == "1"
    assert find(".counts [aria-current]").get_attribute("data-role") == "B"
    find("label.tile", has_text="teacher").click()
    find("[name=b]").fill("44")
    epoch = packs[1]["layers"]["Last"]["T"]["epochs"][-1]
    told = f"#modality=sentence&sample=2&role=teacher&layer=Last&epoch={epoch}&b=0.44"
    assert page.evaluate("location.hash") == told
    assert find("[name=epoch]").is_disabled()
    find("select").select_option(label=find("option").first.text_content())
    assert page.evaluate("location.hash").startswith("#modality=image&sample=0&role=teacher")
    # as tables link to it; and what is not there is the usual
    (link,) = explorer.links([packs[-1]]).values()
    page.goto(f"{page.url.partition('#')[0]}?{link.partition('?')[2]}")
    page.wait_for_function("document.querySelector('[name=b]').value === '50'")
    assert find("select").input_value() == "3" and find("[name=role]:checked").input_value() == "S"
    page.evaluate("location.hash = 'modality=image&sample=99&role=nobody&layer=FC9&epoch=7&b=9'")
    page.wait_for_function("document.querySelector('[name=b]').value === '20'")
    assert find("[name=sample]:checked").input_value() == "0"
    page.reload()
    assert find("[name=sample]:checked").input_value() == "0"


UNNAMED = """[...document.querySelectorAll("#explorer :is(input, select, button, img, svg)")]
  .filter((one) => !(one.ariaLabel || one.labels?.length || one.alt === "" || one.ariaHidden
    || one.textContent)).map((one) => one.outerHTML)"""


@pytest.mark.long
def test_the_page_is_worked_by_keys_and_says_what_it_counts(page, packs):
    find, focused = page.locator, "getComputedStyle(document.activeElement).outlineStyle"
    find("[name=b]").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "solid"
    assert find("[name=b]").get_attribute("aria-valuetext") == "0.21 nats"
    told = packs[0]["layers"]["FC1"]["S"]
    page.keyboard.press("ArrowLeft")
    fg, bg = (told["counted"]["0.2"][name][-1][0] for name in ("n_fg", "n_bg"))
    said = f"{fg} foreground points, {bg} background points, lambda"
    find("[role=status]", has_text=said).wait_for(state="attached")
    assert said in find(".drawing svg").get_attribute("aria-label")
    assert find(".drawing .point").count() == fg + bg
    page.keyboard.press("Tab")  # to the epochs
    page.keyboard.press("Home")
    assert find("output[for=explorer-epoch]").text_content() == "0"
    find("[name=role]:checked").focus()
    page.keyboard.press("ArrowLeft")
    assert find(".counts [aria-current]").get_attribute("data-role") == "T"
    assert page.evaluate(UNNAMED) == []


@pytest.mark.long
def test_verdicts_stand_at_their_thresholds_and_unfit_layers_say_why(page):
    find = page.locator
    assert "✓ supported" in find(".verdicts tbody").text_content()
    find("[name=b]").fill("30")
    assert find(".none").is_hidden() and "one seed" in find(".verdicts tbody").text_content()
    assert find(".verdicts .curve .lead").count() == find(".verdicts tbody tr").count() > 3
    find(".jumps button", has_text="0.25").click()
    assert "undecided" in find(".verdicts tbody").text_content()
    assert page.evaluate("location.hash").endswith("b=0.25") and find(".unfit").is_hidden()
    find("select").select_option(index=1)
    assert find(".unfit").text_content() == "Last is not measurable: the student did not learn."
    find("select").select_option(index=2)
    assert "No results file" in find(".none").text_content()


@pytest.mark.long
def test_every_modality_is_drawn_on_a_phone(page, packs):
    for place, one in enumerate(packs):
        page.locator("select").select_option(index=place)
        page.locator("[name=shade]").check()
        page.locator("[name=b]").fill("5")
        drawn = {"image": "image", "cloud": "path"}.get(one["modality"], ".word")
        assert page.locator(f".drawing {drawn}").count() >= 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("[name=shade]").uncheck()
        words = one["samples"][0].get("words")
        assert not words or page.locator(".word").all_text_contents() == list(words)
