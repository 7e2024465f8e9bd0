import pytest
import torch

from lightning_modules import MABCQ
from lightning_modules.networks.policies import GreedyPolicy, HeadPolicy
from tests.lightning_modules.batches import (
    DIMS,
    N_AGENTS,
    generator,
    make_bc,
    make_mabcq,
    random_batch,
    randomise_parts,
)

pytestmark = pytest.mark.usefixtures("float64")


def learned(**options):
    """For choices, with networks that all differ, targets included."""
    module = make_mabcq(True, **options)
    return randomise_parts(module, "head", "learner.q", "learner.target_q")


def act(policy, batch):
    obs, legal = batch.obs[:, 0], batch.legal_actions[:, 0]
    with torch.no_grad():
        return policy.act(obs, legal, policy.initial_state(len(obs)))[0]


@pytest.mark.parametrize("encoder", ["mlp", "gru"])
@pytest.mark.parametrize("mixer", ["none", "vdn", "qmix"])
def test_threshold_0_is_double_q_learning(mixer, encoder):
    batch, module = random_batch(), learned(threshold=0.0, mixer=mixer, encoder=encoder, memory_dim=6)
    plain = module.learner.td_loss(batch, module.learner.utilities(batch))
    assert torch.equal(module.losses(batch, generator())["q"], plain)
    assert torch.equal(act(module.policy, batch), act(GreedyPolicy(module.learner.q.local), batch))
    assert not torch.equal(act(module.policy, batch), act(learned(threshold=0.9).policy, batch))


@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("mixer", ["none", "vdn"])
def test_targets_take_the_best_of_what_is_likely(mixer, threshold):
    batch, module, errors = random_batch(), learned(threshold=threshold, mixer=mixer), []
    q, lagged = module.learner.q.local, module.learner.target_q.local
    for row, step in batch.valid[:, :-1].nonzero().tolist():
        target = batch.rewards[row, step].expand(N_AGENTS)
        recorded = q(batch.obs[row, step], batch.actions[row, step])
        if not batch.terminals[row, step]:
            if not batch.valid[row, step + 1]:
                continue
            obs, legal = batch.obs[row, step + 1], batch.legal_actions[row, step + 1]
            chances, values = module.head(obs).masked_fill(~legal, -torch.inf).softmax(dim=-1), q.all_values(obs)
            chosen = []
            for agent in range(N_AGENTS):
                likely = chances[agent] >= threshold * chances[agent].max()
                allowed = [choice for choice in range(len(likely)) if likely[choice] and legal[agent, choice]]
                chosen.append(max(allowed, key=lambda choice: float(values[agent, choice].detach())))
            if threshold == 1.0:
                assert chosen == chances.argmax(dim=-1).tolist()  # what the clone would do
            following = lagged(obs, torch.tensor(chosen))
            target = target + 0.9 * (following if mixer == "none" else following.sum())
        error = recorded - target if mixer == "none" else recorded.sum() - target[0]
        errors.append((error.square() / 2).mean())
    torch.testing.assert_close(module.losses(batch, generator())["q"], torch.stack(errors).mean())


def test_threshold_1_acts_as_the_most_likely_behaviour():
    batch, module = random_batch(batch=64), learned(threshold=1.0)
    assert torch.equal(act(module.policy, batch), act(HeadPolicy(module.head, sample=False), batch))


def test_acting_can_be_left_free():
    batch, module = random_batch(batch=64), learned(threshold=1.0, constrain_acting=False)
    assert torch.equal(act(module.policy, batch), act(GreedyPolicy(module.learner.q.local), batch))
    assert (module.policy.network_calls, learned().policy.network_calls) == (1, 2)


def test_the_behaviour_is_cloned():
    batch, module, bc = random_batch(), learned(), make_bc(steps_per_update=None)
    bc.head.load_state_dict(module.head.state_dict())
    expected = bc.losses(batch, generator())["policy"]
    torch.testing.assert_close(module.losses(batch, generator())["behaviour"], expected)


def test_continuous_actions_are_the_best_of_candidates():
    module = make_mabcq(False)
    assert module.policy.candidates == 4 and module.policy.network_calls == 12
    assert {name: policy.network_calls for name, policy in module.evaluation_policies().items()} == {
        "policy": 12,
        "one candidate": 3,
    }


def test_a_few_windows_are_enough_where_candidates_take_time():
    batch, module, draws = random_batch(False), make_mabcq(False, windows_per_update=6), generator(2)
    rows = torch.randperm(24, generator=draws)[:6]
    few = type(batch)(*(field[rows] for field in batch))
    expected, every = module.learner.losses(few, draws), make_mabcq(False, windows_per_update=None)
    every.load_state_dict(module.state_dict())
    for name, loss in module.losses(batch, generator(2)).items():
        assert torch.equal(loss, expected[name])
        assert not torch.equal(loss, every.losses(batch, generator(2))[name])


def test_diagnostics_tell_how_much_is_left():
    batch = random_batch()
    shares = [learned(threshold=t).diagnostics(batch)["likely_share"].item() for t in (0.0, 0.4, 1.0)]
    counted = batch.legal_actions[:, :-1][batch.valid[:, :-1]]
    assert shares[0] == 1.0 > shares[1] > shares[2]
    torch.testing.assert_close(shares[2], float(len(counted) * N_AGENTS / counted.sum()))


@pytest.mark.parametrize("discrete", [True, False])
def test_it_is_buildable_from_its_defaults(discrete):
    assert MABCQ(**DIMS, discrete=discrete).hparams["threshold"] == 0.4


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"threshold": 1.5}, r"threshold must be in \[0, 1\], got 1.5"),
        ({"target_candidates": 0}, "target_candidates must be at least 1"),
        ({"acting_candidates": 0}, "acting_candidates must be at least 1"),
        ({"windows_per_update": 0}, "windows_per_update must be at least 1 or null, got 0"),
        ({"perturbation_bound": -0.1}, r"perturbation_bound must be in \[0, 2\]"),
        ({"discount": 1.1}, r"discount must be in \[0, 1\]"),
        ({"trace_decay": -0.1}, r"trace_decay must be in \[0, 1\]"),
        ({"target_rate": 0.0}, r"target_rate must be in \(0, 1\]"),
    ],
)
def test_impossible_options_are_refused(option, expected):
    with pytest.raises(ValueError, match=expected):
        make_mabcq(**option)
