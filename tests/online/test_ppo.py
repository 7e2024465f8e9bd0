import numpy as np
import pytest
import torch

from environments.learned import LearnedTeam, read_team
from environments.registry import make_vector_env
from online.ppo import Batch, Settings, Training, evaluate, train

QUICK = {"copies": 64, "minibatches": 2, "hidden_dims": (16,), "learning_rate": 1e-2}


def training(scenario, **options):
    settings = Settings(scenario, **QUICK | options)
    return Training(settings, make_vector_env(scenario, settings.copies))


@pytest.mark.parametrize(("scenario", "updates", "expected"), [("matrix/xor", 20, 1.0), ("matrix/bridge", 16, None)])
def test_it_learns_to_break_symmetry(scenario, updates, expected):
    learner = training(scenario)
    before = learner.evaluate(256)
    for _ in range(updates):
        learner.update()
    after = learner.evaluate(256)
    assert after.episodes == 256
    assert after.won > 0.95 > 0.75 > before.won
    if expected is not None:
        assert after.return_mean == pytest.approx(expected, abs=0.05)


def test_what_is_played_is_whole_episodes_in_the_order_of_time():
    learner = training("matrix/bridge", horizon=1000)
    batch = learner.play()
    n, o, a = learner.env.n_agents, learner.env.obs_dim, learner.env.action_dim
    steps = learner.steps
    assert batch.obs.shape == (steps, n, o) and batch.legal_actions.shape == (steps, n, a)
    assert batch.actions.shape == batch.log_probs.shape == (steps, n)
    assert batch.advantages.shape == batch.targets.shape == (steps,)
    assert (batch.log_probs <= 0.0).all()
    start = learner.env.reset(np.random.default_rng(learner.settings.seed).integers(2**32, size=64).tolist())
    assert np.array_equal(batch.obs[:64].numpy(), start.obs)


def test_steps_after_an_episodes_end_are_left_out():
    learner = training("matrix/xor", horizon=5)  # an episode has one step
    assert len(learner.play().targets) == 64
    assert learner.steps == 64


def test_a_batch_goes_on_where_the_last_one_stopped():
    learner = training("mpe/simple_spread", horizon=10)
    pytest.importorskip("mpe2")
    first, second, third = (learner.play() for _ in range(3))
    assert [len(batch.targets) for batch in (first, second, third)] == [640, 640, 320]  # an episode has 25 steps
    assert not np.array_equal(first.obs[:64], second.obs[:64])


def test_the_loss_by_hand():
    learner = training("matrix/xor", entropy_weight=0.1)
    torch.nn.init.zeros_(learner.actor.net[-1].weight)  # both actions have probability 1/2
    torch.nn.init.zeros_(learner.critic.net[-1].weight)  # values are 0
    half = float(np.log(0.5))
    batch = Batch(
        obs=torch.zeros(2, 2, 1),
        state=torch.zeros(2, 1),
        legal_actions=torch.tensor([[[True, True], [True, True]], [[True, True], [True, False]]]),
        actions=torch.zeros(2, 2, dtype=torch.int64),
        log_probs=torch.tensor([[half, half - np.log(2.0)], [half + np.log(4.0), 0.0]], dtype=torch.float32),
        advantages=torch.tensor([1.0, -1.0]),
        targets=torch.tensor([1.0, 3.0]),
    )
    # Ratios 1, 2 and 1/4; the last agent decides nothing. Gains: 1, clipped at 1.2, and min(-1/4, -.8) = -.8.
    policy = (1.0 + 1.2 - 0.8) / 3 + 0.1 * np.log(2.0)
    assert learner.loss(batch).item() == pytest.approx(0.5 * (1 + 9) / 2 - policy, abs=1e-6)


def test_equal_seeds_train_equal_teams(tmp_path):
    def weights(seed, out):
        settings = Settings("matrix/bridge", **QUICK, seed=seed, steps=2000, checkpoints=1, out=tmp_path / out)
        return read_team(list(train(settings))[-1])[0].tensors

    first, second, other = weights(0, "a"), weights(0, "b"), weights(1, "c")
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_checkpoints_say_how_they_were_made(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ppo", "matrix/xor", "--steps", "400"])
    settings = Settings("matrix/xor", **QUICK, steps=400, checkpoints=2, spacing=2.0, out=tmp_path)
    paths = list(train(settings))
    # 64 steps in each update; checkpoints are due after 0, 400 / 4 and 400
    assert [path.name for path in paths] == [f"{steps:010d}.safetensors" for steps in (0, 128, 448)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in paths], "nothing else is left"
    network, facts = read_team(paths[-1])
    assert facts["command"] == "python -m online.ppo matrix/xor --steps 400"
    assert (facts["seed"], facts["updates"], facts["environment_steps"]) == (0, 7, 448)
    assert set(facts["versions"]) >= {"torch", "numpy", "safetensors"}
    again = evaluate(make_vector_env("matrix/xor", 64), network, settings.evaluation_episodes, seed=1)
    assert facts["evaluation"] == again._asdict()
    assert again.episodes == 256


def test_evaluation_of_a_deterministic_team():
    learner = training("matrix/xor")
    torch.nn.init.zeros_(learner.actor.net[-1].weight)
    network = learner.actor.in_numpy()
    assert evaluate(learner.env, network, 10, seed=0, mode=True)[:3] == (64, 0.0, 0.0)  # both take the first action
    drawn = evaluate(learner.env, network, 6400, seed=0)
    assert drawn.won == pytest.approx(0.5, abs=0.02)  # standard error .006
    assert LearnedTeam(network, mode=True).mode


def test_settings_out_of_range_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected steps, copies, horizon and checkpoints of at least 1, got Settings"):
        next(train(Settings("matrix/xor", steps=0, out=tmp_path)))
    with pytest.raises(ValueError, match="unknown scenario 'matrix/xr'; did you mean matrix/xor"):
        next(train(Settings("matrix/xr", out=tmp_path)))
