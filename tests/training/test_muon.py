"""Muon against torch's own, and what it makes of a matrix."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, of the extra `train`")

from music_generator.training.muon import Muon, orthogonalize  # noqa: E402

SHAPES = [(12, 12), (24, 8), (8, 24)]


def random_matrix(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_singular_values_are_brought_near_one_and_the_vectors_kept(
    shape: tuple[int, int], precision: torch.dtype
) -> None:
    """Those of at least 2 % of the norm, as the iteration's five steps reach; however large the matrix is."""
    wide = random_matrix(shape)
    left, _, right = torch.linalg.svd(wide, full_matrices=False)
    values = torch.linspace(0.1, 1, min(shape))
    for size in (1e-3, 1.0, 1e4):
        found = orthogonalize((left * (size * values) @ right).to(precision)).float()
        assert found.shape == shape
        inner = left.T @ found @ right.T  # its singular values on the diagonal if the vectors are the same
        assert (torch.diagonal(inner) > 0.5).all()
        assert (torch.diagonal(inner) < 1.5).all()
        apart = inner - torch.diag(torch.diagonal(inner))
        assert apart.abs().max() < (1e-3 if precision is torch.float32 else 0.05)


def test_nothing_stays_nothing() -> None:
    assert torch.equal(orthogonalize(torch.zeros(3, 5)), torch.zeros(3, 5))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_same_updates_as_torchs_own(shape: tuple[int, int], precision: torch.dtype) -> None:
    """Ten steps, the learning rate changing. torch's rounds to bfloat16 (2^-8), which five iterations enlarge."""
    ours, theirs = (torch.nn.Parameter(random_matrix(shape)) for _ in range(2))
    options = {"lr": 0.01, "weight_decay": 0.1}
    one = Muon([ours], **options, precision=precision)
    other = torch.optim.Muon([theirs], **options, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for step in range(10):
        ours.grad = random_matrix(shape, 100 + step)
        theirs.grad = ours.grad.clone()
        before, before_theirs = ours.detach().clone(), theirs.detach().clone()
        for optimizer in (one, other):
            optimizer.param_groups[0]["lr"] = 0.01 * (step + 1)
            optimizer.step()
        update, expected = ours.detach() - before, theirs.detach() - before_theirs
        assert (update - expected).norm() < (0.04 if precision is torch.float32 else 0.002) * expected.norm()
    torch.testing.assert_close(one.state[ours]["momentum_buffer"], other.state[theirs]["momentum_buffer"])


def test_without_a_gradient_a_matrix_stays() -> None:
    weight, other = (torch.nn.Parameter(random_matrix((4, 6))) for _ in range(2))
    before = weight.detach().clone()
    optimizer = Muon([weight, other], lr=0.1, weight_decay=0.5)
    other.grad = torch.ones(4, 6)
    optimizer.step()
    assert torch.equal(weight, before)
    assert not torch.equal(other, before)


def test_weight_decay_and_size_of_the_step() -> None:
    """As AdamW's, a step's root mean square is about 0.2 of the learning rate, whatever the shape."""
    for shape in ((64, 64), (128, 32), (32, 128)):
        weight = torch.nn.Parameter(torch.zeros(shape))
        weight.grad = random_matrix(shape)
        Muon([weight], lr=0.5, weight_decay=0.0).step()
        assert weight.square().mean().sqrt().item() == pytest.approx(0.5 * 0.2, rel=0.25)
    weight = torch.nn.Parameter(torch.ones(3, 5))
    weight.grad = torch.zeros(3, 5)
    Muon([weight], lr=0.5, weight_decay=0.1).step()
    torch.testing.assert_close(weight.detach(), torch.full((3, 5), 0.95))


def test_its_state_goes_on_where_it_was() -> None:
    whole, again = (torch.nn.Parameter(random_matrix((6, 4))) for _ in range(2))
    options = {"lr": 0.01, "weight_decay": 0.1}
    one, first = Muon([whole], **options), Muon([again], **options)
    for step in range(6):
        if step == 3:
            second = Muon([again], **options)
            second.load_state_dict(first.state_dict())
            first = second
        for weight, optimizer in ((whole, one), (again, first)):
            weight.grad = random_matrix((6, 4), step)
            optimizer.step()
    assert torch.equal(whole, again)
