"""Kernels of updates of parameters: by SGD, Adam and the table's rules, and by SGD with the products before it."""

from __future__ import annotations

from ...updates import BUILT_IN, RULES, Rule
from .sizes import MOST_GRADIENTS, MOST_UPDATES
from .text import fill

UPDATES = r"""
// Numbers that change from step to step come as `..._at`, a pointer, or where that is null as a value.
__device__ void sgd_element(
    REAL* params, const REAL* gradient, REAL* velocity, REAL rate,
    REAL momentum, REAL fresh, int nesterov, REAL weight_decay, Index n_decayed, Index i)
{
    REAL direction = gradient[i];
    if (velocity) {
        const REAL pushed = fresh * direction;
        const REAL v = momentum * velocity[i] + pushed;
        velocity[i] = v;
        direction = nesterov ? pushed + momentum * v : v;
    }
    REAL change = rate * direction;
    if (i < n_decayed) change += rate * weight_decay * params[i];
    params[i] -= change;
}

KERNEL sgd_update(
    REAL* params, const REAL* gradient, REAL* velocity, const REAL* learning_rate_at, REAL learning_rate,
    REAL momentum, REAL fresh, int nesterov, REAL weight_decay, long long n_decayed, long long size)
{
    const REAL rate = learning_rate_at ? *learning_rate_at : learning_rate;
    FOR_GRID(i, size)
        sgd_element(params, gradient, velocity, rate, momentum, fresh, nesterov, weight_decay, n_decayed, i);
}

KERNEL adam_update(
    REAL* params, const REAL* gradient, REAL* mean, REAL* square, const long long* number_at, long long number,
    const REAL* learning_rate_at, REAL learning_rate, REAL beta1, REAL fresh1, double log_beta1,
    REAL beta2, REAL fresh2, double log_beta2, REAL epsilon, int epsilon_hat, REAL weight_decay, long long n_decayed,
    long long size)
{
    // 1 - beta^number, once for each block: many GPUs are slow in double.
    __shared__ REAL correction[2];
    if (threadIdx.x == 0) {
        const double t = number_at ? *number_at : number;
        correction[0] = -expm1(t * log_beta1);
        correction[1] = -expm1(t * log_beta2);
    }
    __syncthreads();
    const REAL rate = learning_rate_at ? *learning_rate_at : learning_rate;
    const REAL added = epsilon_hat ? epsilon / sqrt(correction[1]) : epsilon;
    FOR_GRID(i, size) {
        const REAL g = gradient[i];
        const REAL a = beta1 * mean[i] + fresh1 * g;
        const REAL b = beta2 * square[i] + fresh2 * (g * g);
        mean[i] = a;
        square[i] = b;
        REAL change = rate * (a / correction[0]) / (sqrt(b / correction[1]) + added);
        if (i < n_decayed) change += rate * weight_decay * params[i];
        params[i] -= change;
    }
}
"""

#: Updates that share their learning rate, in one launch: the first ``end_1`` elements are those of update 1, and so on.
_SGD_UPDATES = r"""
KERNEL sgd_updates_@COUNT@(
    const REAL* learning_rate_at, REAL learning_rate,
@PARAMETERS@,
    long long size)
{
    const REAL rate = learning_rate_at ? *learning_rate_at : learning_rate;
    FOR_GRID(i, size) {
@UPDATES@
    }
}
"""

#: Gradients of weights and the update of all parameters, in two sections, of which the second may be empty. Product k
#: is to_k = alpha_k rows_k^T slopes_k + beta_k to_k, which lies where the elements from at_k on have their gradients.
_GRADIENTS_AND_UPDATE = r"""
KERNEL gradients_and_update_@COUNT@(
@PRODUCTS@,
    const REAL* learning_rate_at, REAL learning_rate,
@SECTIONS@,
    long long m, long long size)
{
    __shared__ REAL taken[GROUP_ROWS * GROUP_HEIGHT];
    __shared__ REAL part[GROUP_PARTS * GROUP_HEIGHT * GROUP_WIDTH];
    const REAL rate = learning_rate_at ? *learning_rate_at : learning_rate;
    wait_for_launch_before();
    const int share = ((int)m + GROUP_PARTS - 1) / GROUP_PARTS;
    for (Index tile = blockIdx.x; tile < tiles_@COUNT@; tile += gridDim.x) {
        @CHOICE@
        const Index across = (width + GROUP_WIDTH - 1) / GROUP_WIDTH;
        const Index top = tile_here / across * GROUP_HEIGHT, left = tile_here % across * GROUP_WIDTH;
        FOR_BLOCK(i, (int)m * GROUP_HEIGHT) {
            const int row = (int)i / GROUP_HEIGHT, f = (int)i % GROUP_HEIGHT;
            taken[i] = top + f < height ? rows[row * height + top + f] : REAL(0);
        }
        __syncthreads();
        // A thread has 4 x 4 elements, and of each the part of the sum over its share of the rows.
        FOR_BLOCK(t, GROUP_PARTS * (GROUP_HEIGHT / 4) * (GROUP_WIDTH / 4)) {
            const int c = (int)t % (GROUP_WIDTH / 4);
            const int f = (int)t / (GROUP_WIDTH / 4) % (GROUP_HEIGHT / 4) * 4;
            const int p = (int)t / (GROUP_WIDTH / 4 * GROUP_HEIGHT / 4);
            const int end = (p + 1) * share < (int)m ? (p + 1) * share : (int)m;
            REAL sum[4][4] = {};
            for (int row = p * share; row < end; ++row) {
                REAL slope[4];
                for (int j = 0; j < 4; ++j) {
                    const Index column = left + c + j * (GROUP_WIDTH / 4);
                    slope[j] = column < width ? slopes[row * width + column] : REAL(0);
                }
                for (int i = 0; i < 4; ++i)
                    for (int j = 0; j < 4; ++j)
                        sum[i][j] = fma(taken[row * GROUP_HEIGHT + f + i], slope[j], sum[i][j]);
            }
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 4; ++j)
                    part[(p * GROUP_HEIGHT + f + i) * GROUP_WIDTH + c + j * (GROUP_WIDTH / 4)] = sum[i][j];
        }
        __syncthreads();
        FOR_BLOCK(e, GROUP_HEIGHT * GROUP_WIDTH) {
            const Index row = top + (int)e / GROUP_WIDTH, column = left + (int)e % GROUP_WIDTH;
            if (row < height && column < width) {
                REAL sum = part[e];
                for (int p = 1; p < GROUP_PARTS; ++p) sum += part[p * GROUP_HEIGHT * GROUP_WIDTH + e];
                const Index at = row * width + column;
                to[at] = beta == REAL(0) ? alpha * sum : alpha * sum + beta * to[at];
                const Index i = first + at;
                @UPDATE@
            }
        }
        __syncthreads();
    }
    // All other elements: the last blocks first, which may have no tile.
    for (Index j = (Index)(gridDim.x - 1 - blockIdx.x) * blockDim.x + threadIdx.x; j < size;
         j += (Index)gridDim.x * blockDim.x) {
        Index i = j;
        @SKIPPED@
        @UPDATE@
    }
}
"""

#: What they read before ``wait_for_launch_before``, by the beginning of a kernel's name.
EARLY = {"gradients_and_update_": ("learning_rate_at",)}

_RULE = r"""
KERNEL @NAME@(
    REAL* params, const REAL* gradients, @STATE@const long long* number_at, long long number_given,
    const REAL* learning_rate_at, REAL learning_rate, @SETTINGS@REAL weight_decay, long long n_decayed, long long size)
{
    const double number = number_at ? *number_at : number_given;
    (void)number;
    const REAL rate = learning_rate_at ? *learning_rate_at : learning_rate;
    FOR_GRID(i, size) {
        const REAL gradient = gradients[i];
        REAL direction = gradient;
        @LOAD@
        { @STATEMENTS@ }
        @STORE@
        REAL change = rate * direction;
        if (i < n_decayed) change += rate * weight_decay * params[i];
        params[i] -= change;
    }
}
"""


def update_kernel(rule: str) -> str:
    """The kernel of a built-in rule of updating."""
    return f"{rule}_update"


def rule_kernels() -> list[str]:
    """The kernels of the built-in rules."""
    return [
        rule_kernel(rule, update_kernel(rule.name)) for rule in RULES.values() if rule.name in BUILT_IN and rule.cuda
    ]


def rule_kernel(rule: Rule, name: str) -> str:
    """The kernel ``name`` of a rule of updating: its arrays, its settings in their order."""
    settings = [f"{'int' if isinstance(value, bool) else 'double'} {key}, " for key, value in rule.settings.items()]
    words = {
        "NAME": name,
        "STATE": "".join(f"REAL* {key}_of, " for key in rule.state),
        "SETTINGS": "".join(settings),
        "LOAD": " ".join(f"REAL {key} = {key}_of ? {key}_of[i] : REAL(0);" for key in rule.state),
        "STORE": " ".join(f"if ({key}_of) {key}_of[i] = {key};" for key in rule.state),
        "STATEMENTS": rule.cuda,
    }
    return fill(_RULE, **words)


def joined_update_kernels() -> list[str]:
    """The kernels of several updates by SGD, and of those with gradients of weights."""
    return [
        *(_sgd_updates(count) for count in range(2, MOST_UPDATES + 1)),
        *(_gradients_and_update(count) for count in range(1, MOST_GRADIENTS + 1)),
    ]


def _section(k: int) -> str:
    """The parameters of an update by SGD of a section of the parameters."""
    return (
        f"    REAL* params_{k}, const REAL* gradient_{k}, REAL* velocity_{k}, REAL momentum_{k}, REAL fresh_{k},\n"
        f"    int nesterov_{k}, REAL weight_decay_{k}, long long n_decayed_{k}, long long end_{k}"
    )


def _update_of_element(count: int) -> str:
    """The update of element i of so many sections."""
    updates = []
    for k in range(1, count + 1):
        before, within = (f" - end_{k - 1}" if k > 1 else ""), (f"if (i < end_{k}) " if k < count else "")
        updates.append(
            f"        {'else ' if k > 1 else ''}{within}sgd_element(\n"
            f"            params_{k}, gradient_{k}, velocity_{k}, rate, momentum_{k}, fresh_{k}, nesterov_{k},\n"
            f"            weight_decay_{k}, n_decayed_{k}, i{before});"
        )
    return "\n".join(updates)


def _sgd_updates(count: int) -> str:
    sections = ",\n".join(map(_section, range(1, count + 1)))
    return fill(_SGD_UPDATES, COUNT=str(count), PARAMETERS=sections, UPDATES=_update_of_element(count))


def _gradients_and_update(count: int) -> str:
    products, choices, skipped = [], [], []
    for k in range(1, count + 1):
        products.append(
            f"    const REAL* rows_{k}, const REAL* slopes_{k}, REAL* to_{k}, REAL alpha_{k}, REAL beta_{k},\n"
            f"    long long height_{k}, long long width_{k}, long long at_{k}, long long tiles_{k}"
        )
        skipped.append(f"if (i >= at_{k}) i += height_{k} * width_{k};")
    for kind, name in (
        ("const REAL*", "rows"), ("const REAL*", "slopes"), ("REAL*", "to"), ("const REAL", "alpha"),
        ("const REAL", "beta"), ("const Index", "height"), ("const Index", "width"), ("const Index", "at"),
    ):  # fmt: skip
        cases = "".join(f"tile < tiles_{k} ? {name}_{k} : " for k in range(1, count))
        choices.append(f"{kind} {'first' if name == 'at' else name} = {cases}{name}_{count};")
    before = "".join(f"tile < tiles_{k} ? {f'tiles_{k - 1}' if k > 1 else 'Index(0)'} : " for k in range(1, count))
    choices.append(f"const Index tile_here = tile - ({before}{f'tiles_{count - 1}' if count > 1 else 'Index(0)'});")
    return fill(
        _GRADIENTS_AND_UPDATE,
        COUNT=str(count),
        PRODUCTS=",\n".join(products),
        SECTIONS=",\n".join(map(_section, (1, 2))),
        CHOICE="\n        ".join(choices),
        SKIPPED="\n        ".join(skipped),
        UPDATE=_update_of_element(2),
    )
