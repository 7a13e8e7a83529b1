"""Which sinks a sequence ID switches on.

Selection is a pure function of (seed, layer, ID): a keyed permutation of the pool, of which the ID takes the first
``active`` images. So an ID gets exactly ``active`` distinct rows, at a cost that does not depend on the pool, and only
exact 64-bit integer arithmetic is used, so CPU and GPU agree.

The permutation is a Feistel network on Z_a x Z_b with a*b just above the pool; images outside the pool are permuted
again until they fall inside (cycle walking; Black and Rogaway 2002). ``tests/golden/selection.json`` freezes it: a
change here would silently re-address every trained model.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

ROUNDS, SMALL_ROUNDS, SMALL = 6, 12, 128
"""Feistel rounds, and those for up to ``SMALL`` rows or blocks: the halves of a small domain mix slowly. With 6 rounds,
pairs of rows in a pool of 16 were up to 9 % too frequent; with 12 none of the sizes tried shows a bias."""
_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def select(ids: Tensor, *, seed: int, layers: int | Sequence[int], pool: int, active: int, block: int = 1) -> Tensor:
    """Rows of the pool that each ID switches on in each layer.

    Args:
        ids: ``int64 [n]``, the bit patterns of the IDs; every value is valid.
        seed: the sinks' seed.
        layers: numbers of layers, or how many from 0 on; their choices are independent.
        pool: rows in the pool, a multiple of ``block``.
        active: rows to choose, a multiple of ``block``, at most ``pool``.
        block: choose runs of ``block`` neighbouring rows.

    Returns:
        ``int64 [layers, n, active]``, distinct along the last dimension.
    """
    numbers = range(layers) if isinstance(layers, int) else layers
    layer_salts = [mix(seed + mix((layer + 1) * _GOLDEN)) for layer in numbers]
    salts_L = torch.tensor([_signed(salt) for salt in layer_salts], dtype=torch.int64, device=ids.device)
    keys_LN = _mix(_mix(ids)[None, :] + salts_L[:, None])
    chosen = _permuted_prefix(keys_LN, pool // block, active // block)
    if block == 1:
        return chosen
    offsets = torch.arange(block, device=ids.device)
    return (chosen[..., None] * block + offsets).flatten(-2)


def _permuted_prefix(keys: Tensor, size: int, count: int) -> Tensor:
    """Images of 0..count-1 under a permutation of [0, size) for each key: ``[*keys.shape, count]``."""
    a = math.isqrt(size - 1) + 1
    b = -(-size // a)
    rounds = SMALL_ROUNDS if size <= SMALL else ROUNDS
    round_keys = [_mix(keys + _signed((r + 1) * _GOLDEN)) for r in range(rounds)]
    start = torch.arange(count, device=keys.device).expand(*keys.shape, count)
    images = _feistel(start, [k[..., None] for k in round_keys], a, b)
    flat = images.reshape(-1)
    flat_keys = [k[..., None].expand(images.shape).reshape(-1) for k in round_keys]
    outside = (flat >= size).nonzero().squeeze(1)
    while outside.numel():
        flat[outside] = _feistel(flat[outside], [k[outside] for k in flat_keys], a, b)
        outside = outside[flat[outside] >= size]
    return flat.view(images.shape)


def _feistel(x: Tensor, round_keys: list[Tensor], a: int, b: int) -> Tensor:
    left, right = x // b, x % b
    for r, key in enumerate(round_keys):
        if r % 2 == 0:
            left = (left + _below(key, right, a)) % a
        else:
            right = (right + _below(key, left, b)) % b
    return left * b + right


def _below(key: Tensor, x: Tensor, bound: int) -> Tensor:
    """A pseudo-random function of (key, x) with values in [0, bound), for bounds under 2^31."""
    high = _shift_right(_mix(key + x * _signed(_GOLDEN)), 32)
    return (high * bound) >> 32


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014) on int64 bit patterns; a bijection."""
    x = (x ^ _shift_right(x, 30)) * _signed(_MIX[0])
    x = (x ^ _shift_right(x, 27)) * _signed(_MIX[1])
    return x ^ _shift_right(x, 31)


def mix(x: int) -> int:
    """:func:`_mix` for a Python integer, unsigned."""
    x &= 2**64 - 1
    x = (x ^ (x >> 30)) * _MIX[0] % 2**64
    x = (x ^ (x >> 27)) * _MIX[1] % 2**64
    return x ^ (x >> 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    # int64 shifts copy the sign bit; masking it away makes the shift logical.
    return (x >> bits) & (2 ** (64 - bits) - 1)


def _signed(x: int) -> int:
    x &= 2**64 - 1
    return x - 2**64 if x >= 2**63 else x
