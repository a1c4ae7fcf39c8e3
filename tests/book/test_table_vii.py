"""Table VII's page: every published number, ours only where clouds were measured."""

from book.make import __main__ as book
from book.make import published_pages, report
from kpnb.metrics.formatting import MARKS
from kpnb.metrics.results import Comparison, Measure, Results
from kpnb.paper import METRICS, agreement, published_table

CLOUDS = {"network": "PointNet", "scale": "narrow", "dataset": "embedded clouds"}
CLOUDS |= {"sample": "cloud", "n_samples": 40, "n_seeds": 3, "threshold": 0.25}


def _run(layer: str = "FC1", **changes) -> Results:
    cell = {**CLOUDS, "layer": layer, **changes}
    measures = [
        Measure(role=role, metric="n_fg", mean=mean, low=mean - 1, high=mean + 1, **cell)
        for role, mean in (("S", 23.5), ("B", 14.25))
    ]
    other = {**cell, "threshold": 0.3}
    measures.append(Measure(role="S", metric="n_fg", mean=77.7, **other))
    found = {"difference": 9.25, "low": 6.0, "high": 12.5, "verdict": "reproduced"}
    gap = Comparison(metric="n_fg", prediction="up", **found, **cell)
    return Results(
        notebook="pointcloud_h1", preset="study", settings={"threshold": 0.25}, provenance={},
        seconds=1.0, peak_memory_mb=1.0, fingerprint="0" * 16, measures=measures, comparisons=[gap],
    )  # fmt: skip


def _rows(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in rows if row[0] not in ("layer", "---")]


def _sections(page: str) -> dict[str, list[list[str]]]:
    return {part.split("\n")[0]: _rows(part) for part in page.split("## ")[1:]}


def test_every_published_number_stands_on_the_page_in_its_place():
    sections = _sections(published_pages.table_vii([]))
    assert list(sections) == ["PointNet", "DGCNN", "PointConv", "PointNet++"]
    shown = {
        (network, row[0], {"student": "S", "baseline": "B"}[row[2]]): [
            cell.split()[0] for cell in row[3:]
        ]
        for network, rows in sections.items()
        for row in rows
        if "ours" not in row[1]
    }
    printed = published_table("VII", as_printed=True).to_dict("records")
    assert len(printed) == 16
    assert shown == {
        (r["network"], r["layer"], r["learning"]): [r[m] for m in METRICS] for r in printed
    }


def test_marks_are_the_published_sides():
    rows = [row for rows in _sections(published_pages.table_vii([])).values() for row in rows]
    marks = [cell.split()[1] for row in rows if row[2] == "student" for cell in row[3:]]
    assert marks == [MARKS[o] for o in agreement().query("table == 'VII'")["outcome"]]
    # PointNet, FC2 by hand: more foreground and background points, smaller ratio, faster, stabler
    assert marks[6:12] == ["✓", "✗", "✗", "✓", "✓", "✓"]


def test_ours_stand_below_their_own_network_and_layer_only():
    page = published_pages.table_vii([_run("FC2")])
    sections = _sections(page)
    ours = [row for row in sections["PointNet"] if "ours" in row[1]]
    assert ours[0][1] == "ours: not run here" and ours[0][0] == "FC1"
    about = "ours: embedded clouds, PointNet (narrow), study, 40 clouds, 3 seeds, b = 0.25"
    assert [row[:3] for row in ours[1:]] == [
        ["**FC2**", f"**{about}**", f"**{role}**"] for role in ("student", "baseline")
    ]
    assert ours[1][3].split() == ["**23.5**", "[22.5,", "24.5]", "✓"]
    assert ours[2][3] == "**14.2** [13.2, 15.2]" and ours[2][4] == "not run here"
    assert "77.7" not in page  # another b
    assert sections["PointNet++"] == _sections(published_pages.table_vii([]))["PointNet++"]


def test_only_clouds_belong_to_table_vii():
    images = _run(sample="image")
    assert published_pages.table_vii([images]) == published_pages.table_vii([])
    assert published_pages.table_v([_run(network="VGG-11")]) == published_pages.table_v([])
    assert published_pages.table_vi([_run()]) == published_pages.table_vi([])


def test_verdicts_of_clouds_are_set_beside_table_vii():
    grid = report.verdict_grid([_run()])
    assert "Table VII's cells" in grid
    assert _rows(grid)[1][3] == "5 of 8" == published_pages.paper_rate("n_fg", "VII")
    assert "5 of 8" in report.verdict_table([_run()])


def test_the_book_generates_the_page():
    assert book.fragments([], "https://example.org/a/b")["table_vii"].startswith("## PointNet\n")
