"""Noise of teams: shared or not."""

import torch

from lightning_modules.networks.noise import standard_normal, team_noise


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_agents_share_a_block_and_teams_do_not() -> None:
    like = torch.zeros((), dtype=torch.float64)
    noise = team_noise((5, 3, 2), like, shared=True, generator=seeded())
    block = standard_normal((5, 1, 2), like, seeded())

    assert noise.dtype == torch.float64
    torch.testing.assert_close(noise, block.expand(5, 3, 2), rtol=0, atol=0)
    assert len(noise[:, 0].unique(dim=0)) == 5


def test_without_sharing_every_agent_draws_its_own() -> None:
    noise = team_noise((5, 3, 2), torch.zeros(()), generator=seeded())
    assert len(noise.flatten(0, 1).unique(dim=0)) == 15


def test_both_are_standard_normal() -> None:
    for shared in (False, True):
        noise = team_noise((40_000, 1, 2), torch.zeros(()), shared, seeded())
        assert abs(float(noise.mean())) < 0.015
        assert abs(float(noise.std()) - 1) < 0.01
