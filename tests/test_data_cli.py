"""``lightning data`` as a user meets it: what it prints, and what it says about mistakes."""

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import data_cli
from datamodules.catalogue import recorded_as
from tests.datamodules.hub import Hub, serving
from tests.datamodules.recordings import make_leaves, write_vault
from vgm2p_cli import main

ROOT = Path(__file__).parent.parent
VAULT = {"metadata.json": b"{}", "manifest.ocdbt": b"manifest", "d/0001": b"data"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serving(monkeypatch, tmp_path / "cache") as hub:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for quality in ("Good", "Medium", "Poor"):
                for name, content in VAULT.items():
                    archive.writestr(f"3m.vlt/{quality}/{name}", content)
        hub.files["core/smac_v1/3m.zip"] = file.getvalue()
        yield hub


def run(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    main(["data", *words.split()])
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def refused(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(["data", *words.split()])
    assert left.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "Traceback" not in message and len(message.splitlines()) <= 3
    return message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--help", "list Lists all datasets: published, embedded (recorded here), and others that lie under the root."),
        ("list --help", "--local Only vaults that lie under the root."),
        ("list --help", "true for discrete actions only, false for continuous ones only."),
        ("fetch --help", "dataset [quality]"),
        ("fetch --help", "quality The one that is needed, for example Good."),
        ("record --help", "For example embedded/smax/3m"),
    ],
)
def test_help_explains(words: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["data", *words.split()])
    assert left.value.code == 0
    assert expected in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "expected .*command"),
        ("lst", "invalid choice: 'lst'"),
        ("list --source omigo", "no dataset has the source 'omigo'; did you mean omiga"),
        ("list --discrete perhaps", "discrete(.|\\n)*bool"),
        ("list --format xml", "format"),
        ("fetch", "required: .*dataset"),
        ("fetch og_marl/smac_v1/3n", "unknown dataset 'og_marl/smac_v1/3n'; did you mean og_marl/smac_v1/3m "),
        ("fetch og_marl/smac_v1/3m Goood", r"unknown quality 'Goood' of og_marl/smac_v1/3m; did you mean Good\?"),
        ("fetch embedded/smax/3m", "recorded, .*: lightning data record embedded/smax/3m Mixed"),
        ("fetch og_marl/smac_v1/3m --forec", "forec"),
        ("record embedded/matrix/xr Mixed", "matrix/xr"),
    ],
)
def test_mistakes(here: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(message, refused(words, capsys))
    assert list(here.iterdir()) == []


# list


def test_the_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, *rows = run("list --source omar --quality Medium-Replay", capsys).splitlines()
    assert head.split() == [
        "dataset",
        "quality",
        "agents",
        "obs",
        "state",
        "actions",
        "steps",
        "episodes",
        "mean",
        "std",
        "min",
        "max",
        "won",
        "here",
    ]
    tag = next(row for row in rows if "simple_tag" in row)
    assert tag.split() == (
        [
            "omar/mpe/simple_tag",
            "Medium-Replay",
            "4",
            "16",
            "64",
            "2",
            "continuous",
            "5",
            "x",
            "62,500",
            "2,500",
            "3.90",
            "20.28",
            "-17.11",
            "146.12",
            "-",
            "-",
        ]
    )
    cheetah = next(row for row in rows if "cheetah" in row)
    assert " 2 x 17 " in cheetah
    assert len(rows) == 4
    assert len({row.index("Medium-Replay") for row in rows}) == 1, "columns"


def test_nothing_is_wrapped_or_cut_when_piped(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run("list", capsys).splitlines()[1:]
    assert len(rows) == 84 + 39 + 9
    assert all(len(row.split()) >= 14 and "…" not in row and row == row.rstrip() for row in rows)
    assert sum(row.startswith("og_marl/smac_v1/3s5z_vs_3s6z ") for row in rows) == 3
    assert any(row.split()[:4] == ["og_marl/flatland/20_trains", "-", "-", "-"] for row in rows)


def test_a_narrow_terminal_gets_fewer_columns_and_whole_names(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        data_cli.run(["list", "--scenario", "3s5z_vs_3s6z"])
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    head, *rows = shown.replace("\r", "").splitlines()
    assert head.split() == ["dataset", "quality", "agents", "actions", "steps", "episodes", "mean", "here"]
    assert rows[0].startswith("og_marl/smac_v1/3s5z_vs_3s6z  Poor ")
    assert max(map(len, (head, *rows))) <= 90


def test_csv_and_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run("list --format csv", capsys)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 84 + 39 + 9
    good = next(row for row in rows if (row["source"], row["scenario"], row["quality"]) == ("og_marl", "3m", "Good"))
    assert (good["steps"], good["file"], good["here"]) == ("996366", "core/smac_v1/3m.zip", "False")
    assert float(good["return_mean"]) == pytest.approx(16.4887, abs=1e-4)
    lines = json.loads(run("list --scenario simple_spread --discrete false --format json", capsys))
    assert [(line["source"], line["quality"]) for line in lines] == [
        *(("omar", quality) for quality in ("Random", "Medium-Replay", "Medium", "Expert")),
        *(("embedded", quality) for quality in ("Mixed", "Good", "Medium", "Poor", "Replay", "Expert")),
    ]
    assert lines[-1]["episodes"] == 3000 and lines[-1]["discrete"] is False and lines[-1]["won"] is None
    assert lines[0]["copies"] == 5


def test_figures_of_our_own_recordings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run("list --source embedded --environment smax", capsys).splitlines()[1:]
    good = next(row.split() for row in rows if row.startswith("embedded/smax/3m ") and " Good " in row)
    card = recorded_as("embedded/smax/3m", "Good")
    assert card is not None and card.won is not None
    assert good[2:8] == ["3", "75", "72", "8", "discrete", f"{card.steps:,}"]
    assert good[8:] == [
        *(f"{card.episodes:,}", f"{card.return_mean:.2f}", f"{card.return_std:.2f}", f"{card.return_min:.2f}"),
        *(f"{card.return_max:.2f}", f"{card.won:.1%}", "-"),
    ]
    (other,) = (row.split() for row in rows if row.startswith("embedded/smax/25m "))
    assert other[:4] == ["embedded/smax/25m", "Mixed", "-", "-"]


def test_list_without_a_result(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "list", "--local", "--root", "vaults"])
    printed = capsys.readouterr()
    assert printed.err == "no dataset fits among those in 'vaults'\n"
    assert len(printed.out.splitlines()) == 1


def test_a_reader_that_has_seen_enough_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = os.pipe()
    os.close(ours)  # as `head` does
    with open(theirs, "w") as stdout, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stdout)
        data_cli.show("x" * 10**6)
        assert os.path.samestat(os.fstat(theirs), os.stat(os.devnull)), "what follows goes nowhere, without complaint"
    assert capfd.readouterr().err == ""


# fetch and record


def test_fetch_says_what_came(here: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "fetch", "og_marl/smac_v1/3m", "Good", "--root", "there"])
    printed = capsys.readouterr().out.splitlines()
    place = "there/og_marl/smac_v1/3m.vlt"
    assert printed == [f"{place}/Good", f"{place}/Medium", f"{place}/Poor"]
    assert (here / place / "Good/d/0001").read_bytes() == b"data"
    assert run("fetch og_marl/smac_v1/3m --root there", capsys).splitlines() == [
        f"{path} (was here)" for path in printed
    ]
    (here / place / "Good/d/0001").write_bytes(b"mine")
    main(["data", "fetch", "og_marl/smac_v1/3m", "--root", "there", "--force"])
    assert capsys.readouterr().out.splitlines() == printed
    assert (here / place / "Good/d/0001").read_bytes() == b"data"
    rows = run("list --local --root there", capsys).splitlines()[1:]
    assert [row.split()[1] for row in rows] == ["Poor", "Medium", "Good"]
    assert all(row.endswith(" yes") for row in rows)


def test_fetch_fails_in_a_line(here: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected 'core/smac_v1/8m.zip' at" in refused("fetch og_marl/smac_v1/8m", capsys)
    hub.files["core/smac_v1/8m.zip"] = b"<html>"
    assert "the archive '8m.zip' is damaged" in refused("fetch og_marl/smac_v1/8m", capsys)
    (here / "vaults/og_marl/smac_v1/3m.vlt/Good").mkdir(parents=True)
    assert "expected a vault or nothing" in refused("fetch og_marl/smac_v1/3m", capsys)
    (here / "file").write_text("")
    assert "could not write" in refused("fetch og_marl/smac_v1/3m --root file", capsys)


def test_ctrl_c(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("data_cli.fetch", interrupted)
    with pytest.raises(SystemExit) as left:
        main(["data", "fetch", "og_marl/smac_v1/3m"])
    assert left.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_whole_command_with_the_variables_of_hugging_face(here: Path, hub: Hub) -> None:
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(here / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        environment.pop(name, None)
    words = [sys.executable, "-m", "vgm2p_cli", "data", "fetch", "og_marl/smac_v1/3m", "--root", str(here / "vaults")]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"{here}/vaults/og_marl/smac_v1/3m.vlt/Good"
    assert (here / "vaults/og_marl/smac_v1/3m.vlt/Poor/d/0001").read_bytes() == b"data"
    assert list((here / "home/hub").glob("datasets--InstaDeepAI--og-marl/snapshots/*/core/smac_v1/3m.zip"))


def test_record(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "record", "embedded/matrix/xor", "Mixed", "--root", "there", "--episodes", "20", "--seed", "3"])
    assert (here / "there/embedded/matrix/xor.vlt/Mixed/metadata.json").is_file()
    assert capsys.readouterr().out.strip().endswith("there/embedded/matrix/xor.vlt/Mixed")


# Looking at vaults

LENGTHS = (3, 1, 4)


@pytest.fixture
def vault(here: Path) -> Path:
    return write_vault(here / "vaults", "my/game/map", "Mixed", make_leaves(LENGTHS))


def test_info_describes_a_vault_by_name_and_by_place(
    vault: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    printed = run("info my/game/map Mixed", capsys)
    for words in ("my/game/map Mixed", "episodes     3", "steps        8", "length       2.7 steps, from 1 to 4"):
        assert words in printed
    assert "figure: vaults/.cache/my/game/map/Mixed/returns.png" in printed
    assert (here / "vaults/.cache/my/game/map/Mixed/returns.png").read_bytes().startswith(b"\x89PNG")
    assert sum(int(line.rsplit(" ", 1)[1]) for line in printed.splitlines() if " to " in line[:15]) == 3
    again = run(f"info {vault} --figure own.svg", capsys)
    assert "figure: own.svg" in again and Path("own.svg").is_file()


def test_verify_says_what_is_wrong_and_leaves_with_1(vault: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    printed = run("verify my/game/map Mixed", capsys)
    assert "3 episodes, 8 steps; good (there is nothing published to compare it with)" in printed
    leaves = make_leaves(LENGTHS)
    leaves["rewards"][0, 6, 1] = float("nan")
    bad = write_vault(vault.parents[3], "my/game/map", "Bad", leaves)
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(["data", "verify", str(bad)])
    assert left.value.code == 1
    printed = capsys.readouterr().out
    assert "wrong: " in printed and "'rewards', got nan at copy 0, step 6" in printed and "NOT good" in printed
    assert "'rewards', got nan" in refused("info my/game/map Bad", capsys)


def test_a_vault_that_is_not_what_its_card_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_vault(here / "vaults", "og_marl/smac_v1/3m", "Good", make_leaves(LENGTHS))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["data", "verify", "og_marl/smac_v1/3m", "Good"])
    printed = capsys.readouterr().out
    assert "not as published: expected 'observations' of shape (1, 996366, 3, 30), found (1, 8, 3, 4)" in printed
    assert "not as published: expected 43559 episodes in the first copy, found 3" in printed


def test_export_writes_everything(vault: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert "out.npz: 8 steps, no critic has labelled them yet" in run("export my/game/map Mixed out.npz", capsys)
    assert zipfile.is_zipfile("out.npz")
    assert "expected a vault in" in refused("export my/game/map Nothing out.npz", capsys)
    assert "ending in .npz" in refused("export my/game/map Mixed out.csv", capsys)


def test_a_dataset_without_its_quality(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "a dataset and its quality, got only 'embedded/smax/3m'" in refused("verify embedded/smax/3m", capsys)
