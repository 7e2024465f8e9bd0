"""What recorded actions are called, and what is asked for: the same in CFGRL and VGM2P."""

import pytest
import torch

from lightning_modules.joint_steps import joint_steps
from tests.lightning_modules.batches import (
    generator,
    make_cfgrl,
    make_vgm2p,
    random_batch,
    start_policy,
)

BOTH = pytest.mark.parametrize("make", [make_cfgrl, make_vgm2p], ids=["CFGRL", "VGM2P"])
pytestmark = pytest.mark.usefixtures("float64")


@BOTH
def test_the_quantile_label_calls_its_share_bad(make):
    module = make(label="quantile", label_quantile=0.25)
    signal = torch.arange(1.0, 101.0)[torch.randperm(100, generator=generator())]
    module.start_policy(signal)
    values = module.condition_values(signal)
    assert set(values.tolist()) == {-1.0, 1.0}
    # The 25th smallest of 100 is the threshold and itself counts as good.
    assert (values < 0).sum() == 24
    assert signal[values < 0].max() < signal[values > 0].min()


@BOTH
def test_the_sign_label_counts_in_standard_deviations(make):
    module = make(label="sign", label_threshold=-0.5)
    module.start_policy(torch.tensor([-2.0, 0.0, 2.0]))  # deviation 2: the threshold is -1
    assert module.condition_values(torch.tensor([-1.1, -0.9, 0.0, 3.0])).tolist() == [-1.0, 1.0, 1.0, 1.0]


@BOTH
def test_the_continuous_label_is_the_standardised_signal_over_its_range(make):
    module = make(label="continuous", executed_condition=1.5)
    module.start_policy(torch.tensor([-1.0, 1.0, 3.0]))  # mean 1, deviation 2
    torch.testing.assert_close(module.condition_values(torch.tensor([1.0, 4.0, 90.0])), torch.tensor([0.0, 0.5, 1.0]))
    assert module.policy.condition == (0.5, 1.0)


@BOTH
@pytest.mark.parametrize("credit", ["local", "joint"])
def test_conditions_are_the_labels_of_credits_or_advantages_some_of_them_dropped(make, credit):
    module, batch = make(credit=credit, condition_dropout=0.3), random_batch(batch=600)
    start_policy(module, batch)
    steps = joint_steps(batch)
    conditions = module.draw_conditions(steps, generator())
    signal = steps.credits if credit == "local" else steps.advantages.unsqueeze(-1).expand_as(steps.credits)
    assert torch.equal(conditions.value, torch.where(signal > 0, 1.0, -1.0))
    assert abs(float(conditions.kept.double().mean()) - 0.7) < 4 * (0.3 * 0.7 / conditions.kept.numel()) ** 0.5
    value, known = conditions.shown().unbind(-1)
    dropped = ~conditions.kept.flatten()
    assert torch.equal(known == 0, dropped) and bool((value[dropped] == 0).all())
    assert torch.equal(value[~dropped], conditions.value.flatten()[~dropped])


@BOTH
def test_good_actions_are_asked_for(make):
    for label in ("sign", "quantile"):
        assert make(label=label).policy.condition == (1.0, 1.0)


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_quantile": 1.0}, r"label_quantile must be in \(0, 1\), got 1.0"),
        ({"guidance_scale": -1.0}, "guidance_scale must be at least 0, got -1.0"),
        ({"condition_dropout": 1.0}, r"condition_dropout must be in \[0, 1\), got 1.0"),
        ({"min_time": 0.0}, r"min_time must be in \(0, 1\), got 0.0"),
        ({"ema_rate": 0.0}, r"ema_rate must be in \(0, 1\], got 0.0"),
    ],
)
def test_impossible_options_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
