from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from lightning_modules.flows.noise_schedules import cosine_schedule
from lightning_modules.networks.changes import as_changes
from lightning_modules.networks.inverse_dynamics import InverseDynamics
from lightning_modules.networks.planning_policies import PlanningPolicy
from lightning_modules.networks.trajectory_denoiser import ABSENT, SHOWN, TrajectoryDenoiser
from tests.lightning_modules.batches import generator, normal, random_legal_actions, randomise, team_shape

ENVS, STEPS, AGENTS, OBS, ACTIONS = 4, 5, 3, 6, 4
SCALE = torch.linspace(0.5, 2.0, OBS)


def policy(discrete=True, attention=True, **options):
    shape = team_shape(discrete, n_agents=AGENTS, obs_dim=OBS, action_dim=ACTIONS)
    denoiser = randomise(TrajectoryDenoiser(shape, STEPS, width=16, heads=2, attention=attention), seed=1)
    inverse = randomise(InverseDynamics(shape, (8,)), seed=2)
    defaults = {"length": STEPS, "sampling_steps": 4}
    return PlanningPolicy(denoiser, inverse, cosine_schedule(20), SCALE, **{**defaults, **options})


def known(history=0, seed=0):
    return normal(ENVS, history + 1, AGENTS, OBS, seed=seed).float()


def play(who, obs, seed=3):
    """Actions at all steps of observations (E, steps, N, O)."""
    state, steps = who.initial_state(len(obs)), []
    legal = torch.ones(len(obs), AGENTS, ACTIONS, dtype=torch.bool)
    for step in range(obs.shape[1]):
        with torch.no_grad():
            actions, state = who.act(obs[:, step], legal, state, generator(seed + step))
        steps.append(actions)
    return torch.stack(steps, dim=1)


@pytest.mark.parametrize("history", [0, 2])
@pytest.mark.parametrize("shared_noise", [False, True])
@pytest.mark.parametrize(("knowledge", "reads"), [("own", False), ("alone", False), ("all", True)])
def test_what_other_agents_see(knowledge, reads, shared_noise, history):
    """Decentralised: the action is the same to the last bit, whatever others see. Centralised: it is not."""
    options = {"knowledge": knowledge, "shared_noise": shared_noise, "history": history}
    who = policy(discrete=False, attention=knowledge != "alone", **options)
    obs = known(history=3)
    others = obs.clone()
    others[:, :, [0, 2]] = 10 * known(history=3, seed=9)[:, :, [0, 2]]
    expected, got = play(who, obs), play(who, others)
    assert torch.equal(got[:, :, 1], expected[:, :, 1]) is not reads
    assert not torch.equal(got[:, :, 0], expected[:, :, 0])


class Recorder(nn.Module):
    """Remembers what a denoiser is asked."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, []
        self.inputs, self.n_agents, self.obs_dim = inner.inputs, inner.n_agents, inner.obs_dim

    def forward(self, z, roles, time, signal, goal):
        self.calls.append((z, roles, time, signal, goal))
        return self.inner(z, roles, time, signal, goal)


@pytest.mark.parametrize("knowledge", ["own", "alone", "all"])
def test_what_is_known_stays_through_all_steps_of_the_sampler(knowledge):
    made = policy(knowledge=knowledge, history=1)
    recorder = Recorder(made.denoiser)
    who, seen = replace(made, denoiser=recorder), known(history=1)
    plans, told = who.plans(seen, generator()), as_changes(seen, 1, SCALE)
    assert len(recorder.calls) + 1 == who.network_calls == 2 * 4 + 1
    for z, roles, *_ in recorder.calls:
        for row, (points, kinds) in enumerate(zip(z, roles, strict=True)):
            env, mind = divmod(row, AGENTS if knowledge == "own" else 1)
            for agent in range(AGENTS):
                mine = knowledge != "own" or agent == mind
                assert torch.equal(points[:2, agent], told[env, :, agent]) is mine
                assert kinds[:, agent].tolist() == ([SHOWN, SHOWN, 0, 0, 0] if mine else [ABSENT, 0, 0, 0, 0])
    plan = who.plan(seen, generator())
    assert torch.equal(plan[:, :2], told)
    if knowledge == "own":
        for agent in range(AGENTS):
            assert torch.equal(plan[:, :, agent], plans[:, agent, :, agent])
    else:
        assert torch.equal(plan, plans[:, 0])


@dataclass
class Doubling:
    """A denoiser that knows: every entry is twice the one before. Counts its calls under a goal and without."""

    n_agents: int = AGENTS
    obs_dim: int = OBS

    def __post_init__(self):
        self.with_goal = self.without = 0

    def __call__(self, z, roles, time, signal, goal):
        if bool((goal == 0).all()):
            self.without += 1
        else:
            self.with_goal += 1
        return z[:, :1] * 2.0 ** torch.arange(z.shape[1]).view(1, -1, 1, 1)


def test_an_exact_denoiser_leads_to_what_follows():
    who = replace(policy(knowledge="all", bound=None), denoiser=Doubling())
    seen = known()
    expected = seen * 2.0 ** torch.arange(STEPS).view(1, -1, 1, 1)
    torch.testing.assert_close(who.plan(seen, generator()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("goal", "scale", "with_goal", "without"),
    [((1.0, 1.0), 1.2, 4, 4), ((1.0, 1.0), 1.0, 4, 0), ((0.0, 0.0), 1.2, 0, 4), ((0.0, 1.0), 3.0, 4, 4)],
)
def test_guidance_calls_what_it_needs(goal, scale, with_goal, without):
    denoiser = Doubling()
    who = replace(policy(knowledge="all", goal=goal, guidance_scale=scale), denoiser=denoiser)
    who.plan(known(), generator())
    assert (denoiser.with_goal, denoiser.without) == (with_goal, without)
    assert who.network_calls == with_goal + without + 1


def test_guidance_is_linear_between_its_ends():
    """Scale w = 0 is the null condition, w = 1 the goal; one step of the sampler is linear in w."""

    def plan(**options):
        who = policy(knowledge="all", sampling_steps=1, bound=None, **options)
        return who.plan(known(), generator()).detach().double()

    null, goal = plan(goal=(0.0, 0.0)), plan(guidance_scale=1.0)
    assert float((goal - null).abs().max()) > 0.1
    torch.testing.assert_close(plan(guidance_scale=0.0), null, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(plan(guidance_scale=1.5), null + 1.5 * (goal - null), rtol=1e-3, atol=1e-2)


def test_the_action_is_what_leads_to_the_imagined_change():
    who, seen, asked = replace(policy(knowledge="all", bound=None), denoiser=Doubling()), known(), []
    who.inverse.register_forward_hook(lambda *call: asked.append(call[1]))
    who.act(seen[:, 0], torch.ones(ENVS, AGENTS, ACTIONS, dtype=torch.bool), None, generator())
    ((obs, changes),) = asked
    assert torch.equal(obs, seen[:, 0])
    torch.testing.assert_close(changes, 2 * seen[:, 0], rtol=1e-4, atol=1e-4)


def test_shared_noise_is_one_block_of_the_whole_team():
    seen = known()
    seen[:] = seen[:, :, :1]  # agents see the same
    own, shared = policy(), policy(shared_noise=True)
    blocks = [who._noise((ENVS, AGENTS, STEPS, AGENTS, OBS), seen, generator()) for who in (own, shared)]
    assert not torch.equal(blocks[0][:, 0], blocks[0][:, 1])
    assert torch.equal(blocks[1][:, 0], blocks[1][:, 1]) and torch.equal(blocks[1][:, 0], blocks[1][:, 2])
    assert not torch.equal(blocks[1][:, :, :, 0], blocks[1][:, :, :, 1])  # agents of a plan differ
    assert not torch.equal(blocks[1][0], blocks[1][1])  # so do teams
    alone = policy(knowledge="alone", shared_noise=True)._noise((ENVS, 1, STEPS, AGENTS, OBS), seen, generator())
    assert torch.equal(alone[:, 0, :, 0], alone[:, 0, :, 2])
    assert not torch.equal(alone[:, 0, 0, 0], alone[:, 0, 1, 0])  # times differ


def test_agents_that_know_the_same_imagine_the_same_plan_from_shared_noise():
    made = policy(shared_noise=True)
    made.denoiser.forward = lambda z, *others: 0.3 * z.cumsum(dim=2)  # sees no roles
    plans = made.plans(torch.zeros(ENVS, 1, AGENTS, OBS), generator())
    assert torch.equal(plans[:, 0, 1:], plans[:, 2, 1:])
    different = replace(made, shared_noise=False).plans(torch.zeros(ENVS, 1, AGENTS, OBS), generator())
    assert not torch.equal(different[:, 0, 1:], different[:, 2, 1:])


def test_without_temperature_there_is_no_chance():
    obs = known(history=1)
    still, warm = policy(discrete=False, temperature=0.0), policy(discrete=False)
    assert torch.equal(play(still, obs, seed=1), play(still, obs, seed=2))
    assert not torch.equal(play(warm, obs, seed=1), play(warm, obs, seed=2))


def test_the_past_begins_with_the_first_observation_and_moves_on():
    who, obs = policy(history=2), known(history=4)
    legal = torch.ones(ENVS, AGENTS, ACTIONS, dtype=torch.bool)
    state = who.initial_state(ENVS)
    assert state.shape == (ENVS, 2, AGENTS, OBS) and bool(state.isnan().all())
    expected = [[0, 0], [0, 1], [1, 2], [2, 3]]
    for step, past in enumerate(expected):
        with torch.no_grad():
            _, state = who.act(obs[:, step], legal, state, generator())
        assert torch.equal(state, obs[:, past])
    assert policy().initial_state(ENVS) is None


def test_illegal_choices_are_never_made():
    legal = random_legal_actions(ENVS, AGENTS, ACTIONS)
    with torch.no_grad():
        actions, _ = policy().act(known()[:, 0], legal, None, generator())
    assert bool(legal.gather(-1, actions.unsqueeze(-1)).all())


def test_rows_of_the_final_table():
    assert list(policy().compared()) == ["policy, own noise", "policy, shared noise", "without a return"]
    assert list(policy(knowledge="all").compared()) == ["policy", "without a return"]
    assert policy().compared()["without a return"].network_calls == 4 + 1
