"""Each optimiser does what its paper or a second implementation says, and a training that was cut off goes on bit for bit."""

import math

import pytest
import torch
from safetensors.torch import load, save

from labkit.errors import LabError
from labkit.training import optimisers

EVERY = pytest.mark.parametrize("name", optimisers.NAMES)


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.LayerNorm(10), torch.nn.Tanh(), torch.nn.Linear(10, 10),
                               torch.nn.Linear(10, 3))


def train(model, optimiser, steps, first=0, rate=0.01):
    for step in range(first, first + steps):
        batch = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        for group in optimiser.param_groups:
            group["lr"] = rate * group["faster"] / (1 + step)
        optimiser.zero_grad()
        (model(batch) - batch[:, :3]).square().mean().backward()
        optimiser.step()


def built(name, model, **settings):
    return optimisers.build(name, [{"params": list(model.named_parameters())}], 0.01, **{"weight_decay": 0.1, **settings})


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@EVERY
def test_a_training_cut_off_after_five_steps_ends_as_one_of_ten_bit_for_bit(name):
    whole = network()
    train(whole, built(name, whole), 10)

    first = network()
    optimiser = built(name, first)
    train(first, optimiser, 5)
    kept, kept_weights = save(optimisers.state_tensors(optimiser)), save(first.state_dict())
    train(first, optimiser, 3, first=5)  # what a killed training did after its last checkpoint

    second = network(seed=1)
    second.load_state_dict(load(kept_weights))
    optimiser = built(name, second)
    optimisers.load_state(optimiser, load(kept))
    train(second, optimiser, 5, first=5)
    assert torch.equal(weights(whole), weights(second))


@EVERY
def test_a_measurement_on_the_way_changes_nothing(name):
    one, two = network(), network()
    first, second = built(name, one), built(name, two)
    train(one, first, 6, rate=0.3)  # large steps: the average is far away, and there and back by arithmetic would not be exact
    train(two, second, 3, rate=0.3)
    with optimisers.averaged(second):
        pass
    train(two, second, 3, first=3, rate=0.3)
    assert torch.equal(weights(one), weights(two))
    optimisers.settle(second)
    with optimisers.averaged(second):
        settled = weights(two)
    assert torch.equal(settled, weights(two))  # nothing is averaged twice


@EVERY
def test_every_optimiser_lowers_the_loss(name):
    model = network()
    rate = {"sgd": 0.2, "lion": 0.003}.get(name, 0.02)
    optimiser = optimisers.build(name, [{"params": list(model.named_parameters())}], rate)
    data = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    before = (model(data) - data[:, :3]).square().mean().item()
    for _ in range(150):
        optimiser.zero_grad()
        (model(data) - data[:, :3]).square().mean().backward()
        optimiser.step()
    optimisers.settle(optimiser)
    assert (model(data) - data[:, :3]).square().mean().item() < before / 20


@EVERY
def test_without_a_gradient_to_follow_weights_shrink_by_rate_times_decay_and_norms_and_biases_stay(name):
    """Decoupled decay, Loshchilov and Hutter 2019, algorithm 2."""
    model = network()
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimiser = built(name, model, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for key, value in model.named_parameters():
        expected = before[key] * (1 - 0.01 * 0.5) if value.ndim == 2 else before[key]
        assert torch.allclose(value, expected, atol=1e-7), key


def test_lion_steps_as_its_paper_writes():
    """Chen et al. 2023, algorithm 2, by hand in float64."""
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimiser = optimisers.build("lion", [{"params": [weight]}], 0.01, beta1=0.9, beta2=0.99)
    expected, moment = [1.0, -2.0, 0.5], [0.0, 0.0, 0.0]
    for step in range(8):
        gradient = [math.sin(3 * step + place + 1) for place in range(3)]
        weight.grad = torch.tensor(gradient)
        optimiser.step()
        for place, slope in enumerate(gradient):
            expected[place] -= 0.01 * math.copysign(1, 0.9 * moment[place] + 0.1 * slope)
            moment[place] = 0.99 * moment[place] + 0.01 * slope
        assert torch.allclose(weight.detach(), torch.tensor(expected), atol=1e-6)


def test_schedule_free_averages_as_its_paper_writes():
    """Defazio et al. 2024, algorithm 1, by hand in float64: z steps, x averages it, gradients are taken between the two."""
    rate, beta1, beta2 = 0.05, 0.8, 0.95
    place = torch.nn.Parameter(torch.tensor([3.0]))
    optimiser = optimisers.build("schedule_free", [{"params": [place]}], rate, beta1=beta1, beta2=beta2)
    fast = mean = 3.0
    second = weight_sum = 0.0
    for step in range(1, 13):
        now = rate * min(1, step / 4)  # a warm-up from outside
        optimiser.param_groups[0]["lr"] = now
        between = (1 - beta1) * fast + beta1 * mean
        assert place.item() == pytest.approx(between, abs=1e-5)
        place.grad = 2 * place.detach()
        optimiser.step()
        second = beta2 * second + (1 - beta2) * (2 * between) ** 2
        fast -= now * 2 * between / (math.sqrt(second / (1 - beta2**step)) + 1e-8)
        weight_sum += now**2
        mean += now**2 / weight_sum * (fast - mean)
        with optimisers.averaged(optimiser):
            assert place.item() == pytest.approx(mean, abs=1e-5)
    optimisers.settle(optimiser)
    assert place.item() == pytest.approx(mean, abs=1e-5)


def test_muon_moves_hidden_matrices_as_pytorchs_and_all_else_as_adamw():
    one, two = network(), network()
    rate, settings = 0.02, {"weight_decay": 0.1, "momentum": 0.95}
    names = {"0.weight", "3.weight"}  # "4.weight" is called a head
    groups = [{"params": [("head.weight" if key == "4.weight" else key, value) for key, value in one.named_parameters()]}]
    ours = optimisers.build("muon", groups, rate, beta1=0.9, beta2=0.99, **settings)
    of = dict(two.named_parameters())
    hidden = torch.optim.Muon([of[name] for name in sorted(names)], rate, adjust_lr_fn="match_rms_adamw", **settings)
    rest = torch.optim.AdamW([{"params": [value for key, value in of.items() if key not in names and value.ndim == 1], "weight_decay": 0.0},
                              {"params": [of["4.weight"]], "weight_decay": 0.1}], rate, betas=(0.9, 0.99))
    for step in range(6):
        batch = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        for model, made in ((one, [ours]), (two, [hidden, rest])):
            for each in made:
                each.zero_grad()
            (model(batch) - batch[:, :3]).square().mean().backward()
            for each in made:
                each.step()
    assert torch.allclose(weights(one), weights(two), atol=2e-3)  # the matrices are made orthogonal in bfloat16, here several at once
    assert {group["use_muon"]: len(group["params"]) for group in ours.param_groups if group["use_muon"]} == {True: 2}


def test_muon_makes_every_direction_equally_strong():
    """Singular values a hundredfold apart all come out between 0.5 and 1.5 (Jordan 2024), times rate x 0.2 sqrt(n) (Liu et al. 2025)."""
    matrix = torch.nn.Parameter(torch.zeros(16, 16))
    optimiser = optimisers.build("muon", [{"params": [matrix]}], 0.1)
    left, right = (torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(seed)))[0] for seed in (0, 1))
    matrix.grad = left @ torch.diag(torch.logspace(-1, 1, 16)) @ right
    optimiser.step()
    values = torch.linalg.svdvals(matrix.detach()) / (0.1 * 0.2 * math.sqrt(16))
    assert 0.5 < values.min() and values.max() < 1.5


def test_adafactor_keeps_rows_and_columns_and_steps_by_the_rate():
    """Shazeer and Stern 2018: at the first step the update is clipped to a root mean square of 1, so the step's is the learning rate."""
    matrix = torch.nn.Parameter(torch.zeros(30, 20))
    optimiser = optimisers.build("adafactor", [{"params": [matrix]}], 0.01)
    matrix.grad = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    optimiser.step()
    assert matrix.detach().square().mean().sqrt().item() == pytest.approx(0.01, rel=0.02)
    kept = sum(value.numel() for key, value in optimisers.state_tensors(optimiser).items() if not key.endswith(("#", "RMS")))
    assert kept == 30 + 20


def test_adamw_and_sgd_are_pytorchs():
    for name, other, settings in (("adamw", torch.optim.AdamW, {"betas": (0.8, 0.95), "weight_decay": 0.0}),
                                  ("sgd", torch.optim.SGD, {"momentum": 0.7})):
        one, two = network(), network()
        ours = optimisers.build(name, [{"params": list(one.parameters())}], 0.01, beta1=0.8, beta2=0.95, momentum=0.7)
        theirs = other([{"params": list(two.parameters()), "faster": 1.0}], lr=0.01, **settings)
        train(one, ours, 6)
        train(two, theirs, 6)
        assert torch.allclose(weights(one), weights(two), atol=1e-6), name


def test_groups_keep_their_own_rates_and_are_split_only_where_decay_asks_for_it():
    model = network()
    first, second = list(model.named_parameters())[:4], list(model.named_parameters())[4:]
    whole = optimisers.build("adamw", [{"params": first, "faster": 1.0}, {"params": second, "faster": 8.0}], 0.01)
    assert [(len(group["params"]), group["faster"], group["lr"], group["weight_decay"]) for group in whole.param_groups] == [
        (4, 1.0, 0.01, 0.0), (4, 8.0, 0.08, 0.0)]
    parts = optimisers.build("adamw", [{"params": first}, {"params": second, "faster": 8.0}], 0.01, weight_decay=0.1)
    assert [(len(group["params"]), group["faster"], group["weight_decay"]) for group in parts.param_groups] == [
        (1, 1.0, 0.1), (3, 1.0, 0.0), (2, 8.0, 0.1), (2, 8.0, 0.0)]


@pytest.mark.parametrize(("name", "shape", "decays", "hidden"), [
    ("model.layers.0.mlp.up_proj.weight", (8, 4), True, True),
    ("layers.0.q_proj.lora_A.default.weight", (4, 8), True, True),
    ("layers.0.q_proj.lora_B.default.weight", (8, 1), True, False),
    ("model.embed_tokens.weight", (8, 4), True, False),
    ("embeddings.position_embeddings.weight", (8, 4), True, False),
    ("lm_head.weight", (8, 4), True, False),
    ("heads.intent.weight", (8, 4), True, False),
    ("classifier.weight", (8, 4), True, False),
    ("self_attn.head_mixer.weight", (8, 4), True, True),
    ("encoder.layer.0.output.LayerNorm.weight", (8,), False, False),
    ("encoder.layer.0.output.dense.bias", (8,), False, False),
    ("layers.0.ia3_l.default", (1, 8), False, False),
    ("lora_magnitude_vector.default.weight", (8,), False, False),
])
def test_names_and_shapes_say_what_decays_and_what_muon_moves(name, shape, decays, hidden):
    parameter = torch.zeros(shape)
    assert optimisers.no_decay(name, parameter) is not decays
    assert optimisers.is_hidden_matrix(name, parameter) is hidden


@pytest.mark.parametrize(("name", "expected"), [("adamw", 0.5), ("lion", 0.5), ("sgd", 0.5), ("muon", 0.5), ("schedule_free", 0.9)])
def test_momentum_can_be_set_where_there_is_one(name, expected):
    optimiser = built(name, network())
    optimisers.set_momentum(optimiser, 0.5)
    assert all(group.get("momentum", group.get("betas", [0])[0]) == expected for group in optimiser.param_groups)


def test_a_state_of_another_model_or_optimiser_is_an_error_that_says_so():
    model, other = network(), torch.nn.Sequential(torch.nn.Linear(6, 9))
    optimiser = built("adamw", model)
    train(model, optimiser, 1)
    tensors = optimisers.state_tensors(optimiser)
    with pytest.raises(LabError, match="does not fit"):
        optimisers.load_state(built("adamw", other), tensors)
    with pytest.raises(LabError, match="no place"):
        optimisers.load_state(built("adamw", model), {"0.99:exp_avg": torch.zeros(3)})


def test_settings_that_cannot_be_are_errors_of_one_line():
    with pytest.raises(LabError, match="adamw, adafactor, lion"):
        optimisers.build("adam", [{"params": [torch.nn.Parameter(torch.zeros(2))]}], 0.1)
    with pytest.raises(LabError, match="beta1 must be above 0"):
        optimisers.build("schedule_free", [{"params": [torch.nn.Parameter(torch.zeros(2))]}], 0.1, beta1=0.0)
    with pytest.raises(LabError, match="nothing is left to learn"):
        optimisers.build("adamw", [{"params": []}], 0.1)


def test_a_trail_of_plain_descent_on_a_parabola_shrinks_by_a_constant_factor():
    """x <- x - rate * 2 x = (1 - 2 rate) x."""
    walked = optimisers.trail("sgd", lambda place: place.square().sum(), (2.0, -1.0), 0.1, 5, momentum=0.0)
    for step, place in enumerate(walked):
        assert place == pytest.approx((2.0 * 0.8**step, -(0.8**step)), rel=1e-5)
