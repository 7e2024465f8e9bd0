"""The report as a reader gets it."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from analysis.report import write_report
from tests.analysis.report.grids import row, two_models, write

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = '<script>alert("1")</script>|`$x_'


class Page(HTMLParser):
    """Refuses tags that are not closed in order; collects links, names and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.heads: list[str | None] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.references += [found[name] or "" for name in ("href", "src", "xlink:href") if name in found]
        if tag == "th":
            self.heads.append(found.get("scope"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open[-1:] != ["style"] else ""


def page_of(path: Path, **options: object) -> Page:
    return Page(write_report(path, repetitions=20, **options).read_text())  # type: ignore[arg-type]


def full(directory: Path) -> Path:
    """Two models on two tasks, with a missing cell and curves."""
    cells = [f"{task}/{model}/seed_{seed}" for task in "ab" for model in "xy" for seed in range(3)]
    rows = two_models("a") + two_models("b")
    curves = [
        {**{name: each[name] for name in ("task", "model", "seed", "run")}, "update": 1000, "value": 0.5}
        for each in rows
        if each["main"]
    ]
    write(directory, rows, cells)
    pd.DataFrame(curves).assign(metric="eval/return_mean").to_csv(directory / "curves.csv", index=False)
    return directory


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = full(tmp_path_factory.mktemp("grid"))
    write_report(directory, repetitions=20)
    return directory / "report"


def test_the_page_is_whole_and_needs_nothing_else(made: Path):
    page = Page((made / "report.html").read_text())
    assert len(page.ids) == len(set(page.ids))
    outside = [each for each in page.references if not each.startswith("#")]
    assert outside and all((made / each).is_file() for each in outside)
    assert all(each[1:] in page.ids for each in page.references if each.startswith("#"))
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert "://" not in re.sub(r"\s", "", " ".join(page.references))
    assert page.heads and set(page.heads) == {"col", "row"}


def test_what_a_reader_must_know_first(made: Path):
    text = " ".join(Page((made / "report.html").read_text()).text.split())
    assert "Grid small: 2 models on 2 tasks, 2 to 3 seeds, 256 episodes per evaluation" in text
    assert "10 of 12 cells are finished" in text and "2 of 12 cells are missing" in text
    assert "a: y (seed 2)" in text and "b: y (seed 2)" in text
    assert "Departs from the protocol: 2 to 3 seeds instead of 10 (4 of 4 pairs)" in text
    assert "Nothing that was published can stand beside these results" in text


def test_every_number_leads_to_a_run(made: Path):
    runs = pd.read_csv(made / "tables" / "runs-a.csv")
    assert list(runs["run"]) == [f"a/{m}/seed_{s}/runs/x/version_0" for m, s in ("y0", "y1", "x0", "x1", "x2")]
    assert runs["command"].iloc[0] == "lightning fit --name a/y/seed_0"
    assert list(runs["return"]) == [5, 7, 1, 2, 3]


def test_statistics_over_tasks(made: Path):
    table = pd.read_csv(made / "tables" / "aggregates.csv").set_index(["model", "statistic"])
    assert table.loc[("y", "mean"), "estimate"] == 60  # seeds 0 and 1 of both: 10 (5 + 7) / 2
    assert table.loc[("x", "mean"), "estimate"] == 15  # 10 (1 + 2) / 2: as many seeds as y has
    assert table.loc[("x", "optimality gap"), "estimate"] == 85
    pairs = pd.read_csv(made / "tables" / "improvement.csv").set_index(["model", "other"])["probability"]
    assert (pairs["y", "x"], pairs["x", "y"]) == (1, 0)


def test_files_beside_the_page(made: Path):
    figures = {path.name for path in (made / "figures").iterdir()}
    stems = {"returns-a", "decisions-a", "speed-a", "curves-a-1", "profiles-1", "improvement", "aggregate-IQM"}
    assert {f"{stem}.{kind}" for stem in stems for kind in ("svg", "png")} <= figures
    assert not [name for name in figures if name.startswith(".")]
    text = (made / "report.md").read_text()
    assert "| y | 1 | 2 | **6.000** |" in text and "![" in text and "(figures/returns-a.png)" in text


def test_hostile_names_stay_names(tmp_path: Path):
    rows = [row(task, model, 0, 1.0) for task in ("../t", "a/b") for model in (HOSTILE, "x")]
    page = page_of(write(tmp_path, rows))
    assert "script" not in page.tags and HOSTILE in page.text
    text = (tmp_path / "report" / "report.md").read_text().replace("\\`", "")
    assert "<script" not in re.sub("`[^`]*`", "", text)  # within code it is what it looks like
    inside = {path.name for path in (tmp_path / "report" / "tables").iterdir()}
    assert {"task-t.csv", "task-a-b.csv"} <= inside


def test_a_single_run(tmp_path: Path):
    page = page_of(write(tmp_path, [row("a", "x", 0, 1.0, score=None)]) / "results.csv", title="One & only")
    assert "One & only" in page.text and "One seed for each model" in page.text
    assert (
        "No two models have scores on the same task" in page.text
        and "which cells were wanted is not known" in page.text
    )


def test_the_small_files_are_enough(tmp_path: Path):
    """curves.csv and settings.csv come from the runs, and give the same report without them."""
    write(tmp_path, two_models())
    for each in two_models()[:5]:
        run = tmp_path / str(each["run"])
        run.mkdir(parents=True)
        (run / "metrics.csv").write_text("step,eval/return_mean\n999,0.5\n1999,0.75\n")
        (run / "config.yaml").write_text("model: {init_args: {hidden_dims: [8]}}\ntrainer: {max_steps: 3000}\n")
    first = write_report(tmp_path, tmp_path / "one" / "out", repetitions=20).read_text()
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("results.csv", "curves.csv", "settings.csv"):
        (tmp_path / name).rename(kept / name)
    again = write_report(
        kept, tmp_path / "two" / "out", title=f"Results of {tmp_path.name}", repetitions=20
    ).read_text()
    assert "../../a/x/seed_0/runs/x/version_0/" in first and "model.init_args.hidden_dims" in first
    assert re.sub(r'<a href="\.\./[^"]*">(.*?)</a>', r"\1", first) == again
    assert list(pd.read_csv(kept / "curves.csv")["update"].unique()) == [1000, 2000]


def test_the_best_weights_are_another_report(tmp_path: Path):
    rows = [*two_models(), row("a", "x", 0, 9.0, checkpoint="best"), row("a", "y", 0, 8.0, checkpoint="best")]
    page = page_of(write(tmp_path, rows), checkpoint="best")
    assert "the weights were chosen by playing" in page.text and "9.000" in page.text


def test_published_numbers_stand_apart(tmp_path: Path):
    rows = [row("a", "x", 0, 16.0, dataset="og_marl/smac_v1/3m", quality="Good")]
    page = page_of(write(tmp_path, rows))
    table = pd.read_csv(tmp_path / "report" / "tables" / "published-return-og_marl-smac_v1-3m-Good.csv")
    assert {"ours", "MoSDOT", "MADiff"} == set(table["origin"])
    assert "MoSDOT: Lee et al., 2026. StarCraft II for SMAC" in page.text
    assert list(pd.read_csv(tmp_path / "report" / "tables" / "overview.csv")["model"]) == ["x"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("results.csv", None, "expected the results.csv of a grid, found no file"),
        ("results.csv", "a,b\n1,2\n", "got a table without task, dataset"),
        ("grid.json", "{]", "expected the grid.json of lightning benchmark"),
        ("grid.json", '{"cells": [1]}', "expected the grid.json of lightning benchmark"),
        ("curves.csv", "a\n1\n", "expected the columns task, model, seed, update, metric, value, run"),
        ("settings.csv", "a\n1\n", "expected the columns task, model, setting, value"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, name: str, text: str | None, message: str):
    write(tmp_path, two_models())
    (tmp_path / name).unlink(missing_ok=True)
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        write_report(tmp_path)


def test_results_without_numbers(tmp_path: Path):
    with pytest.raises(ValueError, match="expected at least one finished cell in"):
        write_report(write(tmp_path, []))
    with pytest.raises(ValueError, match="expected results with the checkpoint 'best', got those with"):
        write_report(write(tmp_path, two_models()), checkpoint="best")
    with pytest.raises(ValueError, match=r"expected returns in .*got none in any of 1 runs"):
        write_report(write(tmp_path, [row("a", "x", 0, float("nan"))]))
    with pytest.raises(ValueError, match="expected task, model and seed in every row"):
        write_report(write(tmp_path, [row("a", "x", 0, 1.0) | {"task": None}]))
