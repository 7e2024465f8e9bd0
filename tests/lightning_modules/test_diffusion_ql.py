import pytest
import torch

from lightning_modules import DiffusionQL
from lightning_modules.denoising import denoised_actions
from lightning_modules.joint_steps import joint_steps
from lightning_modules.networks.actions import encode_actions
from lightning_modules.networks.diffusion_policies import DiffusionPolicy
from tests.lightning_modules.batches import (
    ACTION_DIM,
    DIMS,
    N_AGENTS,
    generator,
    make_diffusion_bc,
    make_diffusion_ql,
    moved_by,
    one_step_games,
    random_batch,
    randomise_parts,
    train,
)

BOTH = pytest.mark.parametrize("discrete", [True, False])
pytestmark = pytest.mark.usefixtures("float64")


def learned(discrete, **options):
    """With networks that all differ, targets included."""
    module = make_diffusion_ql(discrete, **options)
    return randomise_parts(module, "denoiser", "averaged_denoiser", "values.critic", "values.target_critic")


def padded(batch):
    """The last entry of agent 0's continuous actions only pads them."""
    legal, actions = batch.legal_actions.clone(), batch.actions.clone()
    legal[..., 0, -1], actions[..., 0, -1] = False, 0.0
    return batch._replace(legal_actions=legal, actions=actions)


def policy_gradients(loss, module):
    return torch.autograd.grad(loss, list(module.denoiser.mlp.parameters()), retain_graph=True)


@pytest.mark.parametrize("approximation", [True, False])
@BOTH
def test_the_diffusion_climbs_both_critics_and_clones(discrete, approximation):
    """Loss and gradients from values of the whole chain's actions, or of what one call found in L_d's noise."""
    batch = random_batch(discrete)
    batch = batch if discrete else padded(batch)
    module, source = learned(discrete, q_weight=1.5, action_approximation=approximation), generator()
    steps = joint_steps(batch)
    features = steps.features(module.denoiser.encoder)
    cloned = denoised_actions(module.denoiser, steps, features, source)
    own = cloned.endpoint
    if not approximation:
        drawing = DiffusionPolicy(module.denoiser, 2)
        own = drawing.generate(features, steps.legal_actions, 1, source).squeeze(0)
    if discrete:
        values = 0
        for choice in range(ACTION_DIM):  # Σ_a p_a Q(o, a)
            vector = encode_actions(torch.tensor(choice), ACTION_DIM, True).expand_as(own)
            values = values + (own[..., choice] + 1) / 2 * module.values.critic(steps.obs, vector).mean(dim=0).detach()
    else:
        values = module.values.critic(steps.obs, own).mean(dim=0)
    expected = cloned.loss - 1.5 * values.mean() / values.detach().abs().mean()
    loss = module.losses(batch, generator())["policy"]
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    for got, hand in zip(policy_gradients(loss, module), policy_gradients(expected, module), strict=True):
        torch.testing.assert_close(got, hand, rtol=1e-8, atol=1e-10)


@BOTH
def test_the_critics_term_reaches_every_call_of_the_chain(discrete):
    """Its gradient is not that of the last call alone."""
    module, batch, slopes = learned(discrete, q_weight=1.0), random_batch(discrete), []
    steps = joint_steps(batch)
    features, whole = steps.features(module.denoiser.encoder), module.denoiser.predicted
    for last_only in (False, True):
        if last_only:
            module.denoiser.predicted = lambda z, k, *rest: whole(z.detach(), k, *rest)
        drawing = DiffusionPolicy(module.denoiser, 2)
        own = drawing.generate(features, steps.legal_actions, 1, generator()).squeeze(0)
        own = (own + 1) / 2 if discrete else own
        slopes.append(policy_gradients(module.values.climbing_loss(steps, own, "expected", True), module))
    assert any(not torch.allclose(*pair, rtol=1e-6) for pair in zip(*slopes, strict=True))


@BOTH
def test_without_weight_of_the_critic_it_is_diffusion_bc(discrete):
    module, clone = learned(discrete, q_weight=0.0), make_diffusion_bc(discrete, levels=2, schedule="vp")
    clone.denoiser.load_state_dict(module.denoiser.state_dict())
    batch = random_batch(discrete)
    assert torch.equal(module.losses(batch, generator())["policy"], clone.losses(batch, generator())["policy"])


@pytest.mark.parametrize("candidates", [1, 3])
@BOTH
def test_critics_follow_the_smaller_of_the_largest_lagged_values(discrete, candidates):
    """Max over draws of the averaged diffusion first, then the smaller critic; one agent, one step at a time."""
    batch = random_batch(discrete)
    batch = batch if discrete else padded(batch)
    module, errors, source = learned(discrete, target_candidates=candidates), [], generator()
    drawing = DiffusionPolicy(module.averaged_denoiser, 2)
    drawn = drawing.generate(module.averaged_denoiser.encoder(batch.obs), batch.legal_actions, candidates, source)
    if discrete:
        drawn = drawn.masked_fill(~batch.legal_actions, -torch.inf).argmax(dim=-1)
    chosen, recorded = (encode_actions(actions, ACTION_DIM, discrete) for actions in (drawn, batch.actions))
    for row, step in batch.valid[:, :-1].nonzero().tolist():
        if not batch.terminals[row, step] and not batch.valid[row, step + 1]:
            continue  # truncated: what followed was not recorded
        for agent in range(N_AGENTS):
            target = batch.rewards[row, step]
            if not batch.terminals[row, step]:
                seen = batch.obs[row, step + 1]
                twins = [module.values.target_critic(seen, draw)[:, agent] for draw in chosen[:, row, step + 1]]
                target = target + 0.9 * torch.stack(twins).amax(dim=0).amin()
            mine = module.values.critic(batch.obs[row, step], recorded[row, step])[:, agent]
            errors.append((mine - target).square().sum())
    loss = module.diffusion.td_loss(batch, generator())
    torch.testing.assert_close(loss, torch.stack(errors).mean(), rtol=1e-9, atol=1e-9)


def test_critics_learn_from_some_windows():
    batch, module = random_batch(False), learned(False, windows_per_update=3, q_weight=0.0)
    seen = []
    module.values.critic.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    module.losses(batch, generator())
    assert seen == [3]


@pytest.mark.parametrize("approximation", [True, False])
@BOTH
def test_each_loss_moves_its_own_networks(discrete, approximation):
    module = learned(discrete, action_approximation=approximation)
    losses = module.losses(random_batch(discrete), generator())
    assert {name.split(".")[0] for name in moved_by(losses["policy"], module)} == {"denoiser"}
    assert {name.split(".")[1] for name in moved_by(losses["q"], module)} == {"critic"}


def test_what_acts_and_what_looks_ahead():
    module = make_diffusion_ql(True)
    assert module.policy.network is module.denoiser and module.policy.critics is module.values.target_critic
    pairs = {id(pair.source): pair for pair in module.target_pairs()}
    assert pairs[id(module.denoiser)].target is module.averaged_denoiser


@pytest.mark.parametrize("approximation", [True, False])
def test_it_finds_the_better_joint_choice(approximation):
    """Recorded evenly, but (1, 1) pays; a diffusion that only cloned would do it in one game of four."""
    games = one_step_games([[0, 0], [0, 1], [1, 0], [1, 1]], [4, 4, 4, 4], [0.0, 0.0, 0.0, 1.0])
    sizes = {"n_agents": 2, "obs_dim": 1, "state_dim": 1, "action_dim": 2, "levels": 3}
    options = {"q_weight": 3.0, "acting_candidates": 1, "action_approximation": approximation}
    module = train(make_diffusion_ql(True, **sizes, **options), games, 60, 1e-2)
    obs, legal = torch.zeros(300, 2, 1), torch.ones(300, 2, 2, dtype=torch.bool)
    actions, _ = module.policy.act(obs, legal, module.policy.initial_state(300), generator())
    assert float(actions.double().mean()) > 0.9


def test_it_is_buildable_from_its_defaults():
    module = DiffusionQL(**DIMS, discrete=False)
    assert module.hparams["levels"] == 5 and module.policy.network_calls == 7
    assert module.evaluation_policies()["policy, 1 candidate"].network_calls == 5


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"levels": 0}, "levels must be at least 1, got 0"),
        ({"sampling_steps": 3}, r"sampling_steps must be in 1..2, the levels, or null, got 3"),
        ({"eta": -0.5}, r"eta must be in \[0, 1\], got -0.5"),
        ({"q_weight": -1.0}, "q_weight must be at least 0, got -1.0"),
        ({"target_candidates": 0}, "target_candidates must be at least 1, got 0"),
        ({"acting_candidates": 0}, "acting_candidates must be at least 1, got 0"),
        ({"windows_per_update": 0}, "windows_per_update must be at least 1 or null, got 0"),
        ({"ema_rate": 0.0}, r"ema_rate must be in \(0, 1\], got 0.0"),
        ({"discount": 1.1}, r"discount must be in \[0, 1\]"),
    ],
)
def test_impossible_options_are_refused(option, expected):
    with pytest.raises(ValueError, match=expected):
        make_diffusion_ql(**option)
