"""Losses against their formulas, written out once more; and that each game pulls both players the right way."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from crispen.training.losses import (
    ADVERSARIAL_FORMS,
    PIXEL_LOSSES,
    charbonnier_loss,
    feature_matching_loss,
    gradient_penalty,
    grid_loss,
    luma,
    perceptual_loss,
    psnr_loss,
    texture_loss,
    total_variation_loss,
)

REAL, FAKE = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 2.0])


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


BCE = -torch.log(sigmoid(REAL)).mean() - torch.log(1 - sigmoid(FAKE)).mean()
BY_HAND = {
    "bce": (BCE, -torch.log(sigmoid(FAKE)).mean()),
    "bce-saturating": (BCE, torch.log(1 - sigmoid(FAKE)).mean()),
    "least-squares": ((0 + 4) / 2 + (0.25 + 4) / 2, (0.25 + 1) / 2),
    "least-squares-sigmoid": (
        (((sigmoid(REAL) - 1) ** 2).mean() + (sigmoid(FAKE) ** 2).mean()) / 2,
        ((sigmoid(FAKE) - 1) ** 2).mean(),
    ),
    "hinge": ((0 + 2) / 2 + (1.5 + 3) / 2, -1.25),
    "relativistic-average": (
        -(torch.log(sigmoid(REAL - 1.25)).mean() + torch.log(1 - sigmoid(FAKE - 0.0)).mean()) / 2,
        -(torch.log(sigmoid(FAKE - 0.0)).mean() + torch.log(1 - sigmoid(REAL - 1.25)).mean()) / 2,
    ),
    "one-minus": (1 - sigmoid(REAL).mean() + sigmoid(FAKE).mean(), 1 - sigmoid(FAKE).mean()),
}


@pytest.mark.parametrize("name", ADVERSARIAL_FORMS)
def test_adversarial_forms_by_hand(name: str) -> None:
    form = ADVERSARIAL_FORMS[name]
    of_discriminator, of_generator = BY_HAND[name]
    assert float(form.discriminator_loss(REAL, FAKE)) == pytest.approx(float(of_discriminator), rel=1e-5)
    assert float(form.generator_loss(REAL, FAKE)) == pytest.approx(float(of_generator), rel=1e-5)


@pytest.mark.parametrize("name", ADVERSARIAL_FORMS)
def test_the_players_pull_apart(name: str) -> None:
    """The discriminator lifts real and lowers fake logits; the generator lifts fake ones."""
    form = ADVERSARIAL_FORMS[name]
    real, fake = (torch.full((3,), 0.5, requires_grad=True) for _ in range(2))
    of_real, of_fake = torch.autograd.grad(form.discriminator_loss(real, fake), (real, fake))
    assert (of_real < 0).all()
    assert (of_fake > 0).all()
    (of_fake,) = torch.autograd.grad(form.generator_loss(real, fake), fake)
    assert (of_fake < 0).all()


def test_only_the_relativistic_generator_sees_real() -> None:
    for name, form in ADVERSARIAL_FORMS.items():
        changed = not torch.equal(form.generator_loss(REAL, FAKE), form.generator_loss(REAL + 1, FAKE))
        assert changed == form.generator_sees_real, name


def test_perceptual_loss_sums_weighted_layers() -> None:
    sr, hr = (
        {"a": torch.tensor([1.0, 3.0]), "b": torch.ones(1)},
        {"a": torch.tensor([0.0, 1.0]), "b": torch.zeros(1)},
    )
    loss = perceptual_loss(sr, hr, layers={"a": 2.0, "b": 10.0}, difference=nn.functional.mse_loss)
    assert float(loss) == pytest.approx(2 * (1 + 4) / 2 + 10)


def test_total_variation_is_of_neighbours() -> None:
    ramp = torch.arange(4.0).expand(2, 3, 5, 4)
    assert float(total_variation_loss(ramp)) == pytest.approx(2 * (0 + 1))
    assert float(total_variation_loss(3 * ramp.mT)) == pytest.approx(2 * (9 + 0))


def test_feature_matching_has_no_gradient_for_real_features() -> None:
    fake, real = [torch.ones(2, requires_grad=True)], [torch.zeros(2, requires_grad=True)]
    loss = feature_matching_loss(fake, real)
    loss.backward()
    assert loss.item() == 1
    assert fake[0].grad is not None
    assert real[0].grad is None


def test_gradient_penalty_of_a_linear_discriminator() -> None:
    """For logits w·x + b the gradient is w everywhere, whatever the picture."""
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    weight = next(discriminator.parameters())
    penalty = gradient_penalty(discriminator, torch.rand(5, 3, 2, 2))
    assert penalty.item() == pytest.approx(weight.square().sum().item() / 2, rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(weight.grad, weight.detach())


def test_luma_is_brightness_and_blind_to_what_keeps_it() -> None:
    gray = torch.rand(2, 1, 3, 4)
    assert torch.allclose(luma(gray.expand(2, 3, 3, 4)), gray)
    redder = torch.tensor([0.587, -0.299, 0.0]).reshape(1, 3, 1, 1)
    assert torch.allclose(luma(gray + 0.3 * redder), luma(gray.expand(2, 3, 3, 4)))


def test_the_grid_is_told_from_an_error_that_depends_on_the_content() -> None:
    torch.manual_seed(0)
    hr = torch.rand(2, 3, 64, 64)
    grid = torch.zeros(4, 4)
    grid[1, 2] = 0.1
    patterned, offset, noisy = hr + grid.repeat(16, 16), hr + 0.1, hr + 0.1 * torch.randn_like(hr)
    of_grid, of_offset, of_noise = (grid_loss(sr, hr, scale=4).item() for sr in (patterned, offset, noisy))
    assert of_grid == pytest.approx(float(grid.var(correction=0)), rel=1e-4)
    assert of_offset < 1e-12
    assert of_noise < 0.1**2 / 60, "64 errors cancel out"


def test_the_grid_loss_takes_pictures_smaller_than_its_neighbourhood() -> None:
    assert grid_loss(torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), scale=4).item() == 0


def test_the_texture_loss_asks_how_strong_detail_is_not_where() -> None:
    torch.manual_seed(0)
    hr = 0.5 + 0.1 * torch.randn(1, 1, 96, 96).expand(1, 3, 96, 96)
    shifted, weaker, missing = hr.roll((5, 3), (2, 3)), 0.5 + (hr - 0.5) / 2, torch.full_like(hr, 0.5)
    of_shift, of_weakness, of_lack = (
        texture_loss(sr, hr, scale=4).item() for sr in (shifted, weaker, missing)
    )
    assert texture_loss(hr, hr, scale=4).item() == 0
    assert of_weakness == pytest.approx(0.05, rel=0.02)
    assert of_lack > 1
    assert of_shift < of_weakness / 10
    stronger_here = hr.clone()
    stronger_here[..., :48] = 0.5 + 1.4 * (hr[..., :48] - 0.5)
    stronger_here[..., 48:] = 0.5 + 0.2 * (hr[..., 48:] - 0.5)  # the same power in all
    assert texture_loss(stronger_here, hr, scale=4).item() > 0.04, "each place counts for itself"


def test_where_the_truth_may_be_this_or_that_the_texture_loss_wants_the_mean_power() -> None:
    torch.manual_seed(0)
    pattern = torch.randn(1, 1, 96, 96).expand(1, 3, 96, 96)

    def loss(strength: float) -> float:
        return sum(texture_loss(strength * pattern, truth * pattern, scale=4).item() for truth in (0.02, 0.1))

    best = min((n / 1000 for n in range(20, 101)), key=loss)
    assert best == pytest.approx(((0.02**2 + 0.1**2) / 2) ** 0.5, rel=0.02)


def test_of_a_truth_that_is_seldom_rough_the_median_is_even() -> None:
    """Two of three have no detail: the middle one has none, their mean power a third of the third's."""
    pattern = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)).expand(1, 3, -1, -1)
    strengths = [0.0, 0.02, 0.04, 0.06, 0.08, 0.1]

    def best(power: Literal["mean", "median"]) -> float:
        def loss(strength: float) -> float:
            return sum(
                texture_loss(strength * pattern, truth * pattern, scale=4, power=power).item()
                for truth in (0.0, 0.0, 0.1)
            )

        return min(strengths, key=loss)

    assert best("median") == 0
    assert best("mean") == 0.06


def test_the_texture_loss_keeps_detail_near_its_place() -> None:
    """Beside a line, on ground that is even in truth, dots cost more than on the line itself."""
    line = torch.zeros(1, 3, 64, 64)
    line[..., ::2, 20:24] = 1.0
    aside, thicker = line.clone(), line.clone()
    aside[..., ::2, 34:36] = 0.5
    thicker[..., ::2, 24:26] = 0.5
    assert texture_loss(aside, line, scale=4) > 1.2 * texture_loss(thicker, line, scale=4)


def test_the_texture_loss_leaves_alone_what_the_input_shows() -> None:
    waves = torch.sin(torch.arange(128) * (2 * torch.pi / 32)).expand(1, 3, 128, 128)
    hr, stronger = 0.5 + 0.1 * waves, 0.5 + 0.2 * waves
    fine = torch.sin(torch.arange(128) * (2 * torch.pi / 3)).expand(1, 3, 128, 128)
    assert texture_loss(stronger, hr, scale=4) < texture_loss(hr + 0.1 * fine, hr, scale=4) / 20


def test_the_texture_loss_of_pictures_smaller_than_a_wave_is_zero() -> None:
    sr = torch.rand(1, 3, 7, 20, requires_grad=True)
    loss = texture_loss(sr, torch.rand(1, 3, 7, 20), scale=4)
    loss.backward()
    assert loss.item() == 0
    assert texture_loss(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), scale=4).item() > 0


def test_charbonniers_loss_is_absolute_but_for_its_tip() -> None:
    hr = torch.zeros(1, 3, 2, 2)
    for difference in (-0.5, -0.1, 0.1, 0.5):
        found = float(PIXEL_LOSSES["charbonnier"](hr + difference, hr))
        assert found == pytest.approx(abs(difference), rel=1e-4)
    tip = hr.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(charbonnier_loss(tip, hr), tip)
    assert (gradient == 0).all(), "there is no kink at 0"
    (one,) = torch.autograd.grad(charbonnier_loss(tip + 1e-4, hr), tip)
    (two,) = torch.autograd.grad(charbonnier_loss(tip + 2e-4, hr), tip)
    torch.testing.assert_close(two, 2 * one, rtol=0.05, atol=0)  # a parabola near 0


def test_the_psnr_loss_is_the_mean_of_the_shortfalls_and_flat_pictures_do_not_drown_others() -> None:
    hr = torch.full((2, 3, 4, 4), 0.5)
    sr = hr.clone()
    sr[0] += 0.1  # 20 dB, so 30 short of 50
    sr[1] -= 0.01  # 40 dB; 10.4 short of where it levels off
    assert float(PIXEL_LOSSES["psnr"](sr, hr)) == pytest.approx((30.004 + 10.414) / 2, abs=0.001)
    same = hr.clone().requires_grad_()
    loss = psnr_loss(same, hr)
    loss.backward()
    assert loss.item() == 0
    assert same.grad is not None
    assert (same.grad == 0).all()
