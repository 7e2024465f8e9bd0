"""Published numbers: what is there, and that it never gets into our means."""

import csv

import pandas as pd
import pytest

from analysis.published import FILE, PROTOCOLS, beside, protocols, published
from analysis.statistics import aggregates
from analysis.tables import task_table
from datamodules.catalogue import find, is_published
from tests.analysis.frames import results


def ours(quality: str = "Good", dataset: str = "og_marl/smac_v1/3m") -> pd.DataFrame:
    return results({(quality, "bc"): [15.0, 17.0]}, "return", dataset=dataset, quality=quality)


def test_every_row_says_where_it_is_from_and_in_which_unit():
    frame = published()
    assert len(frame) == 503 and set(frame["source"]) == set(PROTOCOLS)
    assert frame[["source", "table", "dataset", "method", "value", "unit"]].notna().all(axis=None)
    assert {unit.partition(":")[0] for unit in frame["unit"]} == {"return", "score", "share"}
    assert not frame["dataset"].str.contains("average").any() and not (frame["quality"] == "average").any()
    assert not frame.duplicated(["source", "table", "dataset", "quality", "method", "unit"]).any()


def test_numbers_as_they_were_printed():
    frame = published().set_index(["source", "dataset", "quality", "method", "unit"])
    row = frame.loc[("MoSDOT", "og_marl/smac_v1/3m", "Medium", "MAC-Flow", "return")]
    assert (row["value"], row["spread"], row["std"], row["seeds"]) == (18.0, 3.2, 1.6, 6)
    row = frame.loc[("MADiff", "omar/mpe/simple_spread", "Expert", "OMAR", "score")]
    assert row["value"] == 114.9 and pd.isna(row["std"])
    row = frame.loc[("MoSDOT", "omar/mpe/simple_spread", "Expert", "ICQ", "score")]
    assert (row["value"], row["random"], row["expert"]) == (114.9, 159.8, 516.8) and "look swapped" in row["note"]
    row = frame.loc[("MoSDOT", "landmark diagnostic", "", "MoSDOT", "share: success")]
    assert (row["value"], row["std"], row["seeds"]) == (0.991, 0.002, 4)


def test_the_returns_of_the_data_are_those_of_the_catalogue():
    """Two copies of the same cards: one in analysis/, one in datamodules/."""
    frame = published()
    cards = frame[frame["source"] == "OG-MARL cards"]
    assert len(cards) == 84
    for _, row in cards.iterrows():
        if is_published(row["dataset"]) and (found := find(row["dataset"], row["quality"])) is not None:
            assert row["value"] == pytest.approx(found.return_mean, rel=0.02, abs=0.02), row["dataset"]


def test_ours_stand_beside_theirs():
    table = beside(ours())
    assert set(zip(table["dataset"], table["quality"], strict=True)) == {("og_marl/smac_v1/3m", "Good")}
    first = table.iloc[0]
    assert (first["origin"], first["method"], first["value"], first["seeds"]) == ("ours", "bc", 16.0, 2)
    assert first["std"] == pytest.approx(2**0.5) and first["from"] == "our runs"
    theirs = table[table["origin"] == "MoSDOT"].set_index("method")
    assert theirs.loc["BC", "value"] == 16.0 and theirs.loc["BC", "std"] == 0.5
    assert theirs.loc["BC", "from"] == "MoSDOT, Table 2"
    assert set(table["unit"]) == {"return"} and "behaviour data" not in set(table["method"])
    assert [line.partition(":")[0] for line in protocols(table)] == ["MoSDOT", "MADiff"]


def test_published_numbers_never_end_in_our_means():
    table = beside(ours())
    mixed = table.rename(columns={"method": "model", "value": "return"}).assign(task="3m", seed=0)
    for mixing in (aggregates, task_table):
        with pytest.raises(ValueError, match="expected numbers of one origin, got those of MADiff, MoSDOT, ours"):
            mixing(mixed, value="return")


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="embedded/smax/3m Mixed; embedded datasets are recordings of our own"):
        beside(ours("Mixed", "embedded/smax/3m"))
    with pytest.raises(ValueError, match="unit: expected one of return, score, got 'share'"):
        beside(ours(), unit="share")
    with pytest.raises(ValueError, match="expected our results, got those of MADiff"):
        beside(ours().assign(origin="MADiff"))
    with pytest.raises(ValueError, match="of which a score was published"):
        beside(ours(), unit="score")


def test_the_file_has_plain_columns():
    with FILE.open(newline="") as file:
        header = next(csv.reader(file))
    assert header == [
        *("source", "table", "dataset", "quality", "method", "value", "spread", "spread_kind", "seeds", "unit"),
        *("random", "expert", "note"),
    ]
