import torch

from lightning_modules.networks.changes import as_changes


def test_by_hand():
    obs = torch.tensor([1.0, 3.0, 2.0, 8.0, 9.0]).view(1, 5, 1, 1).repeat(1, 1, 1, 2)
    scale = torch.tensor([1.0, 2.0])
    changes = as_changes(obs, 2, scale)[0, :, 0]
    assert changes[:, 0].tolist() == [-2.0, 1.0, 2.0, 6.0, 1.0]
    assert changes[:, 1].tolist() == [-1.0, 0.5, 2.0, 3.0, 0.5]
    assert as_changes(obs, 0, scale)[0, :, 0, 0].tolist() == [1.0, 2.0, -1.0, 6.0, 1.0]
    assert as_changes(obs, 4, scale)[0, :, 0, 0].tolist() == [-2.0, 1.0, -6.0, -1.0, 9.0]


def test_times_up_to_the_present_need_no_others():
    obs = torch.randn(3, 5, 2, 4, generator=torch.Generator().manual_seed(0))
    scale = torch.full((4,), 0.5)
    assert torch.equal(as_changes(obs[:, :3], 2, scale), as_changes(obs, 2, scale)[:, :3])
