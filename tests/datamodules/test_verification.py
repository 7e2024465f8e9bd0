import shutil
from pathlib import Path

import numpy as np
import pytest

from datamodules.catalogue import PublishedDataset
from datamodules.vaults import Vault
from datamodules.verification import MOST_PROBLEMS, first_returns, inspect_vault
from tests.datamodules.recordings import Leaves, make_leaves, write_vault

LENGTHS = (3, 1, 4)
DATASET = "made_up/game/map"


def card(**changes: object) -> PublishedDataset:
    """What would be published about ``make_leaves(LENGTHS)``, with the returns of agent 0."""
    rewards = make_leaves(LENGTHS)["rewards"][0, :, 0].astype(np.float64)
    returns = np.array([part.sum() for part in np.split(rewards, np.cumsum(LENGTHS)[:-1])])
    facts = {
        "source": "made_up",
        "environment": "game",
        "scenario": "map",
        "quality": "Mixed",
        "file": "core/game/map.zip",
        "n_agents": 3,
        "obs_dim": 4,
        "state_dim": 5,
        "state_per_agent": False,
        "action_dim": 3,
        "discrete": True,
        "action_axis": False,
        "legal_actions": True,
        "out_of_range": "error",
        "copies": 1,
        "steps": 8,
        "episodes": 3,
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
    }
    return PublishedDataset(**(facts | changes))  # type: ignore[arg-type]


def vault_of(root: Path, leaves: Leaves, written: int | None = None) -> Path:
    return write_vault(root, DATASET, "Mixed", leaves, written)


def test_a_good_vault_by_hand(tmp_path: Path) -> None:
    leaves = make_leaves(LENGTHS, copies=2)
    report = inspect_vault(vault_of(tmp_path, leaves))
    assert report.good
    assert (report.problems, report.notes) == ([], [])
    assert (report.n_agents, report.obs_dim, report.state_dim, report.action_dim, report.discrete) == (3, 4, 5, 3, True)
    assert report.lengths.tolist() == [3, 1, 4, 3, 1, 4]
    team = leaves["rewards"].mean(axis=2).reshape(-1)
    np.testing.assert_allclose(
        report.returns, [part.sum() for part in np.split(team, np.cumsum(LENGTHS * 2)[:-1])], rtol=1e-5
    )


def test_everything_that_is_wrong_is_told_with_its_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = make_leaves(LENGTHS, copies=2)
    leaves["rewards"][0, 5, 1] = np.inf
    leaves["observations"][1, 4, 2, 3] = np.nan
    leaves["actions"][0, 2, 1] = 7
    leaves["infos"]["legals"][1, 3, 2, leaves["actions"][1, 3, 2]] = False
    monkeypatch.setattr(Vault, "piece", 3)
    report = inspect_vault(vault_of(tmp_path, leaves))
    assert not report.good
    told = "\n".join(report.problems)
    assert len(report.problems) == 4
    for words in (
        "'rewards', got inf at copy 0, step 5, agent or entry [1]",
        "'observations', got nan at copy 1, step 4, agent or entry [2, 3]",
        "'actions' in 0..2, got 7 at copy 0, step 2, agent or entry [1]",
        "'infos.legals' allows, got",
    ):
        assert words in told


def test_many_problems_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = make_leaves((5,) * 10)
    leaves["rewards"][:] = np.nan
    monkeypatch.setattr(Vault, "piece", 1)
    report = inspect_vault(vault_of(tmp_path, leaves))
    assert len(report.problems) == MOST_PROBLEMS
    assert report.left_out == 50 - MOST_PROBLEMS


def test_an_unfinished_end_is_noted_and_no_end_at_all_is_wrong(tmp_path: Path) -> None:
    report = inspect_vault(vault_of(tmp_path, make_leaves(LENGTHS), written=6))
    assert report.good
    assert any("stops within an episode (copy 0, step 5)" in note for note in report.notes)
    leaves = make_leaves(LENGTHS)
    leaves["terminals"], leaves["truncations"] = np.zeros((2, 1, 8, 3), dtype=bool)
    report = inspect_vault(write_vault(tmp_path, DATASET, "Endless", leaves))
    assert any("no 'terminals' nor 'truncations' is set in all 8 steps" in problem for problem in report.problems)


def test_a_damaged_file_and_no_vault_are_problems_too(tmp_path: Path) -> None:
    vault = vault_of(tmp_path, make_leaves(LENGTHS))
    for file in (vault / "d").iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "cannot be read" in inspect_vault(vault).problems[0]
    shutil.rmtree(vault)
    assert "expected a vault" in inspect_vault(vault).problems[0]


def test_what_agrees_with_its_card(tmp_path: Path) -> None:
    vault = vault_of(tmp_path, make_leaves(LENGTHS))
    assert inspect_vault(vault, published=card()).good
    np.testing.assert_allclose(first_returns(Vault(vault)).mean(), card().return_mean, rtol=1e-6)


def test_an_unfinished_episode_is_not_counted_by_cards(tmp_path: Path) -> None:
    vault = vault_of(tmp_path, make_leaves(LENGTHS), written=6)
    assert len(first_returns(Vault(vault))) == 2
    assert len(first_returns(Vault(vault), truncated=False)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 9}, r"expected 'observations' of shape \(1, 9, 3, 4\), found \(1, 8, 3, 4\)"),
        ({"obs_dim": 5}, r"expected 'observations' of shape \(1, 8, 3, 5\)"),
        ({"legal_actions": False, "action_axis": True}, r"expected 'actions' of shape \(1, 8, 3, 1\)"),
        ({"episodes": 4}, "expected 4 episodes in the first copy, found 3"),
        ({"return_max": 99.0}, "expected returns with a max of 99, found"),
        ({"return_mean": -5.0}, "expected returns with a mean of -5, found"),
    ],
)
def test_what_differs_from_its_card_is_told(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    report = inspect_vault(vault_of(tmp_path, make_leaves(LENGTHS)), published=card(**changes))
    assert not report.problems
    assert not report.good
    import re

    assert any(re.search(message, difference) for difference in report.differences)
