import pytest
import torch

from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.policies import HeadPolicy
from tests.lightning_modules.batches import (
    default_dtype,
    generator,
    make_awr,
    make_bc,
    one_step_games,
    random_batch,
    start_policy,
    train,
)

pytestmark = pytest.mark.usefixtures("float64")


def pair(discrete, batch, dtype=torch.float64, **options):
    """An AWR in its policy's stage and a BC with the same head."""
    with default_dtype(dtype):
        awr, bc = start_policy(make_awr(discrete, **options), batch), make_bc(discrete, steps_per_update=None)
        bc.head.load_state_dict(awr.head.state_dict())
    return awr, bc


@pytest.mark.parametrize("discrete", [True, False])
def test_without_temperature_it_is_cloning_exactly(discrete):
    batch = random_batch(discrete, dtype=torch.float32)
    awr, bc = pair(discrete, batch, torch.float32, inverse_temperature=0.0)
    assert torch.equal(awr.losses(batch, generator())["policy"], bc.losses(batch, generator())["policy"])


@pytest.mark.parametrize("inverse_temperature", [0.0, 1.0, 3.0])
def test_equal_advantages_of_zero_are_cloning(inverse_temperature):
    batch = random_batch()
    batch = batch._replace(advantages=torch.zeros_like(batch.advantages))
    awr, bc = pair(True, batch, inverse_temperature=inverse_temperature)
    torch.testing.assert_close(
        awr.losses(batch, generator())["policy"], bc.losses(batch, generator())["policy"], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("credit", ["joint", "local"])
@pytest.mark.parametrize("discrete", [True, False])
def test_the_loss_weights_each_recorded_action(discrete, credit):
    batch = random_batch(discrete)
    awr, _ = pair(discrete, batch, credit=credit, inverse_temperature=2.0, maximum_weight=3.0)
    steps = joint_steps(batch)
    logs = awr.head.log_prob(steps.features(awr.head.encoder), steps.actions, steps.legal_actions)
    recorded = batch.credits[batch.valid] if credit == "local" else batch.advantages[batch.valid]
    signal = steps.credits if credit == "local" else steps.advantages.unsqueeze(-1).expand(logs.shape)
    weights = (2.0 * signal / recorded.std()).exp().clamp(max=3.0)
    assert bool((weights == 3.0).any()) and float(weights.min()) < 0.2
    expected = -(weights * logs).mean()
    torch.testing.assert_close(awr.losses(batch, generator())["policy"], expected, rtol=0, atol=1e-12)


def test_advantages_get_no_gradient():
    batch = random_batch()
    batch.advantages.requires_grad_()
    awr, _ = pair(True, batch._replace(advantages=batch.advantages.detach()))
    awr.losses(batch, generator())["policy"].backward()
    assert batch.advantages.grad is None


def test_good_actions_are_cloned_more():
    """Two equally frequent actions, advantages ±1 of deviation s: odds e^(2β/s)."""
    module = make_awr(
        n_agents=1,
        obs_dim=1,
        state_dim=1,
        action_dim=2,
        hidden_dims=(8,),
        inverse_temperature=0.5,
        maximum_weight=100.0,
    )
    batch = one_step_games([[0], [1]], [10, 10], [1.0, -1.0])
    start_policy(module, batch)
    deviation = float(batch.advantages[batch.valid].std())
    train(module, batch, updates=200, learning_rate=0.05)
    logits = module.head(torch.zeros(1, 1, 1)).detach().flatten()
    assert float(logits[0] - logits[1]) == pytest.approx(2 * 0.5 / deviation, abs=5e-3)


def test_it_acts_and_is_compared_as_bc_is():
    module = make_awr()
    assert module.policy == HeadPolicy(module.head)
    assert module.evaluation_policies()["policy, mode"] == HeadPolicy(module.head, sample=False)


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"inverse_temperature": -0.1}, r"inverse_temperature must be at least 0, got -0\.1.*model\.init_args"),
        ({"maximum_weight": 0.0}, r"maximum_weight must be above 0, got 0\.0.*model\.init_args"),
    ],
)
def test_impossible_options_are_refused(option, match):
    with pytest.raises(ValueError, match=match):
        make_awr(**option)
