import math
from itertools import pairwise

import pytest
import torch

from lightning_modules.flows.diffusion import (
    Visited,
    add_noise,
    ddim_step,
    ddpm_step,
    dpm_solver_step,
    endpoint_from_noise,
    noise_from_endpoint,
    posterior,
    sample,
)
from lightning_modules.flows.noise_schedules import noise_schedule, visited_levels
from tests.lightning_modules.batches import generator, normal

MEAN, STD = 0.7, 0.5  # of the Gaussian data
SAMPLERS = [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 0.5), ("ddim", 1.0), ("dpm_solver", 0.0)]
KEPT, NEXT = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
pytestmark = pytest.mark.usefixtures("float64")


def variance_at(kept):
    """Of noisy data from N(MEAN, STD²)."""
    return kept * STD**2 + 1 - kept


def expected_data(z, kept):
    """E[x | z] for data from N(MEAN, STD²): regression of one Gaussian on another."""
    return MEAN + kept.sqrt() * STD**2 / variance_at(kept) * (z - kept.sqrt() * MEAN)


def expected_noise(z, kept):
    """E[ε | z], likewise."""
    return (1 - kept).sqrt() / variance_at(kept) * (z - kept.sqrt() * MEAN)


def flowed(z, kept, next_kept):
    """Where the flow without chance takes z: the same number of standard deviations from the mean at every level."""
    ratio = (variance_at(next_kept) / variance_at(kept)).sqrt()
    return next_kept.sqrt() * MEAN + ratio * (z - kept.sqrt() * MEAN)


def drawing(shape, seed=5):
    source = generator(seed)
    return lambda: torch.randn(shape, generator=source)


def test_noise_is_added_by_hand():
    x, noise = torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, 0.5]])
    torch.testing.assert_close(add_noise(x, noise, torch.tensor(0.36)), torch.tensor([[0.6 + 1.6, -0.6 + 0.4]]))


def test_nothing_is_added_to_data_and_nothing_is_left_in_noise():
    x, noise = normal(4, 2, seed=0), normal(4, 2, seed=1)
    assert torch.equal(add_noise(x, noise, torch.tensor(1.0)), x)
    assert torch.equal(add_noise(x, noise, torch.tensor(0.0)), noise)


def test_noise_and_endpoint_imply_each_other():
    x, noise, kept = normal(5, 3, 2, seed=0), normal(5, 3, 2, seed=1), torch.rand(5, 3, 1, generator=generator())
    z = add_noise(x, noise, kept)
    torch.testing.assert_close(endpoint_from_noise(z, noise, kept), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(noise_from_endpoint(z, x, kept), noise, rtol=0, atol=1e-12)


def test_an_endpoint_can_be_clipped():
    z, noise = torch.tensor([[0.9, -3.0]]), torch.zeros(1, 2)
    torch.testing.assert_close(endpoint_from_noise(z, noise, torch.tensor(0.25), 1.0), torch.tensor([[1.0, -1.0]]))


def test_the_posterior_is_that_of_three_joint_gaussians():
    """As z' ~ N(√ᾱ' x, 1 - ᾱ') and z = √(ᾱ/ᾱ') z' + noise of variance 1 - ᾱ/ᾱ': condition z' on z."""
    x, z = normal(6, 1, seed=0), normal(6, 1, seed=1)
    slope, noise = (KEPT / NEXT).sqrt(), 1 - KEPT / NEXT
    gain = slope * (1 - NEXT) / (slope**2 * (1 - NEXT) + noise)
    mean, deviation = posterior(z, x, KEPT, NEXT)
    expected = NEXT.sqrt() * x + gain * (z - slope * NEXT.sqrt() * x)
    torch.testing.assert_close(mean, expected, rtol=0, atol=1e-10)
    assert float(deviation**2) == pytest.approx(float((1 - gain * slope) * (1 - NEXT)), abs=1e-10)


def test_the_posterior_at_the_data_is_the_endpoint():
    z, x = normal(3, 2, seed=0), normal(3, 2, seed=1)
    mean, deviation = posterior(z, x, KEPT, torch.tensor(1.0))
    torch.testing.assert_close(mean, x, rtol=0, atol=1e-12)
    assert float(deviation) == 0


def test_ddpm_draws_from_the_posterior():
    z, x, noise = normal(3, 2, seed=0), normal(3, 2, seed=1), normal(3, 2, seed=2)
    mean, deviation = posterior(z, x, KEPT, NEXT)
    assert torch.equal(ddpm_step(z, x, KEPT, NEXT, noise), mean + deviation * noise)
    assert torch.equal(ddpm_step(z, x, KEPT, NEXT, None), mean)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_a_ddim_step_on_gaussian_data_is_the_analytic_one(eta):
    """Endpoint and noise in closed form, with the chance that η says."""
    z, noise = normal(8, 1, seed=0), normal(8, 1, seed=1)
    variance = eta**2 * (1 - 0.8) / (1 - 0.3) * (1 - 0.3 / 0.8)
    mean = math.sqrt(0.8) * expected_data(z, KEPT) + math.sqrt(0.2 - variance) * expected_noise(z, KEPT)
    step = ddim_step(z, expected_data(z, KEPT), KEPT, NEXT, eta, noise)
    torch.testing.assert_close(step, mean + math.sqrt(variance) * noise, rtol=0, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_keeps_the_distribution_of_every_level(eta):
    """With the data known, z ~ N(√ᾱ x, 1 - ᾱ) becomes z' ~ N(√ᾱ' x, 1 - ᾱ'); the step is linear in z and noise."""
    x = torch.tensor([[0.4]])
    places = torch.stack([KEPT.sqrt() * x, KEPT.sqrt() * x + 1])
    from_mean, from_above = (ddim_step(z, x, KEPT, NEXT, eta, torch.zeros(1, 1)) for z in places)
    slope = from_above - from_mean
    by_noise = ddim_step(places[0], x, KEPT, NEXT, eta, torch.ones(1, 1)) - from_mean
    torch.testing.assert_close(from_mean, NEXT.sqrt() * x, rtol=0, atol=1e-10)
    torch.testing.assert_close(slope**2 * (1 - KEPT) + by_noise**2, (1 - NEXT).view(1, 1), rtol=0, atol=1e-10)


def test_ddim_with_all_the_chance_is_ddpm():
    z, x, noise = normal(3, 2, seed=0), normal(3, 2, seed=1), normal(3, 2, seed=2)
    expected = ddpm_step(z, x, KEPT, NEXT, noise)
    torch.testing.assert_close(ddim_step(z, x, KEPT, NEXT, 1.0, noise), expected, rtol=0, atol=1e-12)


def test_the_solver_without_a_past_is_ddim_without_chance():
    z, x = normal(3, 2, seed=0), normal(3, 2, seed=1)
    torch.testing.assert_close(dpm_solver_step(z, x, KEPT, NEXT), ddim_step(z, x, KEPT, NEXT), rtol=0, atol=1e-12)


def test_the_solver_extrapolates_the_endpoint_in_the_logarithm_of_the_ratio():
    """λ = -1, 0, 2: from half a step behind to a whole step ahead, D = x̂ + 2/(2 · 1) (x̂ - x̂_0)."""
    kept = torch.tensor([-1.0, 0.0, 2.0]).mul(2).sigmoid()
    z, x, before = normal(3, 2, seed=0), normal(3, 2, seed=1), normal(3, 2, seed=2)
    expected = ddim_step(z, x + (x - before), kept[1], kept[2])  # ε̂ of D, so that it is not the same formula
    alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
    by_hand = sigma[2] / sigma[1] * z - alpha[2] * (math.exp(-2.0) - 1) * (2 * x - before)
    got = dpm_solver_step(z, x, kept[1], kept[2], Visited(before, kept[0]))
    torch.testing.assert_close(got, by_hand, rtol=0, atol=1e-10)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver"])
def test_order_of_convergence(sampler):
    """Errors against the exact flow of Gaussian data fall like 1/S with DDIM, like 1/S² with the solver."""
    order, errors = (1 if sampler == "ddim" else 2), []
    for steps in (40, 80, 160):
        ratios = torch.linspace(3.0, -3.0, steps + 1)  # λ; level 0 is not visited
        kept = torch.cat([torch.ones(1), (2 * ratios).sigmoid()])
        noise = normal(50, 1)

        def endpoint(z, k, kept=kept):
            return expected_data(z, kept[k])

        end = sample(endpoint, noise, kept, range(steps + 1, 0, -1), sampler)
        errors.append(float((end - flowed(noise, kept[-1], kept[1])).abs().max()))
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)
    assert errors[-1] < (3e-2 if order == 1 else 3e-4)


@pytest.mark.parametrize("kind", ["vp", "linear", "cosine"])
@pytest.mark.parametrize(("sampler", "eta"), SAMPLERS)
def test_every_sampler_reproduces_gaussian_data(kind, sampler, eta):
    """From the data's own distribution at level K to mean (exact) and spread (within 8 % at 100 levels, 4 % at 200).

    Endpoints are linear in z, so samples are linear in each draw: row j of the batch has a one in draw number j
    alone, the last row none. The last row becomes the mean, the squares of differences to it add up to the variance.
    """
    for levels, tolerance in ((100, 0.08), (200, 0.04)):
        kept = noise_schedule(kind, levels)
        ones = iter(torch.cat([torch.eye(levels + 1), torch.zeros(1, levels + 1)]).T.unsqueeze(-1))
        start = kept[-1].sqrt() * MEAN + variance_at(kept[-1]).sqrt() * next(ones)
        visited, draw = visited_levels(levels, levels), ones.__next__

        def endpoint(z, k, kept=kept):
            return expected_data(z, kept[k])

        *rows, mean = sample(endpoint, start, kept, visited, sampler, draw, eta)
        assert float(mean) == pytest.approx(MEAN, abs=1e-10)
        spread = (torch.stack(rows) - mean).square().sum().sqrt()
        assert float(spread) == pytest.approx(STD, rel=tolerance)


@pytest.mark.parametrize(("sampler", "eta"), SAMPLERS)
def test_one_point_of_data_is_found_by_any_number_of_steps(sampler, eta):
    kept, noise = noise_schedule("cosine", 20), normal(7, 2)
    for steps in (1, 3, 20):
        levels = visited_levels(20, steps)
        samples = sample(lambda z, k: torch.full_like(z, 0.3), noise, kept, levels, sampler, drawing((7, 2)), eta)
        torch.testing.assert_close(samples, torch.full_like(samples, 0.3), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("sampler", "eta"), SAMPLERS)
def test_the_chain_can_be_differentiated(sampler, eta):
    """By the network's parameter and by the first noise, against finite differences."""
    kept, noise, blocks = noise_schedule("vp", 5), normal(3, 2), normal(4, 3, 2, seed=1)

    def end(weight, start):
        block = iter(blocks)
        levels = visited_levels(5, 5)
        return sample(lambda z, k: (weight * z + k).tanh(), start, kept, levels, sampler, lambda: next(block), eta)

    inputs = (torch.tensor(0.3, requires_grad=True), noise.requires_grad_())
    assert torch.autograd.gradcheck(end, inputs)


@pytest.mark.parametrize(("sampler", "eta", "draws"), [("ddpm", 0.0, 3), ("ddim", 0.0, 0), ("ddim", 0.5, 3)])
def test_one_block_is_drawn_for_each_step_but_the_last(sampler, eta, draws):
    kept, blocks = noise_schedule("vp", 8), []

    def draw():
        blocks.append(torch.zeros(2, 3))
        return blocks[-1]

    sample(lambda z, k: z, normal(2, 3), kept, visited_levels(8, 4), sampler, draw, eta)
    assert len(blocks) == draws


@pytest.mark.parametrize(("sampler", "eta"), SAMPLERS)
def test_agents_that_share_all_noise_and_know_the_same_do_the_same(sampler, eta):
    kept, source = noise_schedule("vp", 6), generator(3)

    def draw():
        return torch.randn(5, 1, 2, generator=source).expand(5, 3, 2)

    samples = sample(lambda z, k: z.tanh(), draw(), kept, visited_levels(6, 6), sampler, draw, eta)
    assert torch.equal(samples[:, :1].expand(5, 3, 2), samples)


@pytest.mark.parametrize("steps", [20, 4])
def test_ddpm_goes_step_by_step_with_diffusers(steps):
    scheduler = scheduler_of("DDPMScheduler", steps, variance_type="fixed_small", clip_sample=False)
    kept, z, ours, theirs = noise_schedule("cosine", 20), normal(6, 2), generator(1), generator(1)
    scheduler.alphas_cumprod = kept[1:]
    levels = visited_levels(20, steps)
    assert [int(t) + 1 for t in scheduler.timesteps] == list(levels[:-1])
    for here, following in pairwise(levels):
        noise = z.sin()  # any prediction
        expected = scheduler.step(noise, here - 1, z, generator=theirs).prev_sample
        endpoint = endpoint_from_noise(z, noise, kept[here])
        block = torch.randn(z.shape, generator=ours) if following else None
        z = ddpm_step(z, endpoint, kept[here], kept[following], block)
        torch.testing.assert_close(z, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_goes_step_by_step_with_diffusers(eta):
    scheduler = scheduler_of("DDIMScheduler", 5, clip_sample=True, set_alpha_to_one=True)
    kept, z, block = noise_schedule("cosine", 20), normal(6, 2), normal(6, 2, seed=1)
    scheduler.alphas_cumprod = kept[1:]
    levels = visited_levels(20, 5)
    for here, following in pairwise(levels):
        noise, options = z.sin(), {"eta": eta, "use_clipped_model_output": True, "variance_noise": block}
        expected = scheduler.step(noise, here - 1, z, **options).prev_sample
        endpoint = endpoint_from_noise(z, noise, kept[here], bound=1.0)
        z = ddim_step(z, endpoint, kept[here], kept[following], eta, block)
        torch.testing.assert_close(z, expected, rtol=0, atol=1e-10)


def test_the_solver_goes_step_by_step_with_diffusers():
    options = {"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "final_sigmas_type": "zero"}
    scheduler = scheduler_of("DPMSolverMultistepScheduler", 5, prediction_type="sample", **options)
    kept, noise, visited = noise_schedule("cosine", 20), normal(6, 2), []
    z = noise
    for step in scheduler.timesteps:
        z = scheduler.step(z.sin(), step, z).prev_sample
        visited.append(z)
    for last in range(1, 6):
        levels = visited_levels(20, 5)[: last + 1]
        got = sample(lambda z, k: z.sin(), noise, kept, levels, "dpm_solver")
        torch.testing.assert_close(got, visited[last - 1], rtol=1e-4, atol=1e-4)  # theirs are single precision


def scheduler_of(name, steps, **options):
    diffusers = pytest.importorskip("diffusers")
    scheduler = getattr(diffusers, name)(
        num_train_timesteps=20, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing", **options
    )
    scheduler.set_timesteps(steps)
    return scheduler


def test_impossible_requests_are_refused():
    kept, z = noise_schedule("vp", 5), normal(3, 1)
    with pytest.raises(ValueError, match=r"eta of DDIM must be in \[0, 1\], got 1.5"):
        ddim_step(z, z, KEPT, NEXT, 1.5)
    with pytest.raises(ValueError, match=r"levels of a diffusion sampler must fall, .*, got \[0, 5\]"):
        sample(lambda z, k: z, z, kept, [0, 5])
    with pytest.raises(ValueError, match="unknown diffusion sampler 'euler'; choose 'ddpm', 'ddim' or 'dpm_solver'"):
        sample(lambda z, k: z, z, kept, [5, 0], "euler")
    for sampler, eta in (("ddpm", 0.0), ("ddim", 0.5)):
        with pytest.raises(ValueError, match=f"sampler '{sampler}' with eta {eta} draws noise in between: pass draw"):
            sample(lambda z, k: z, z, kept, [5, 0], sampler, eta=eta)
