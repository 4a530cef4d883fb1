"""The emulator of CUDA kernels: it gives right numbers, and finds what is wrong."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.emulator import Emulator, Flush, build, compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler here")

ORDERS = range(5)
SOURCE = """
struct Job {
    const float *in;
    float *out;
    int n;
    float factor;
};

extern "C" __global__ void __launch_bounds__(256) sum(const Job job) {
    __shared__ float part[256];
    const int thread = threadIdx.x, place = blockIdx.x * blockDim.x + thread;
    part[thread] = place < job.n ? __ldg(job.in + place) * job.factor : 0.0f;
    BARRIER
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (thread < half) part[thread] += part[thread + half];
        BARRIER
    }
    if (thread == 0) job.out[blockIdx.x] = part[0];
}

extern "C" __global__ void shuffled(const Job job) {
    const int lane = threadIdx.x % 32;
    const unsigned mask = job.n == 32 ? ~0u : ((1u << job.n) - 1) << (lane & -job.n);  // lanes of a group
    const float own = job.in[threadIdx.x];
    float down = own, around = own, all = own;
    for (int by = job.n / 2; by > 0; by /= 2) {
        down += __shfl_down_sync(mask, down, by, job.n);
        all += __shfl_xor_sync(mask, all, by, job.n);
    }
    around = __shfl_sync(mask, own, lane + 1, job.n);
    job.out[threadIdx.x] = lane % job.n == 0 ? down : all;
    job.out[blockDim.x + threadIdx.x] = around;
}

extern "C" __global__ void voted(const Job job) {
    const int value = int(job.in[threadIdx.x]);
    float *out = job.out + 4 * threadIdx.x;
    out[0] = float(__reduce_min_sync(~0u, value));
    out[1] = float(__reduce_max_sync(~0u, value));
    out[2] = float(__ballot_sync(~0u, value > 0) >> 28);
    out[3] = float(__any_sync(~0u, value == 3));
}

extern "C" __global__ void extremes(const Job job) {
    __shared__ int least, greatest;
    if (threadIdx.x == 0) least = 1000, greatest = -1000;
    __syncthreads();
    atomicMin(&least, int(job.in[threadIdx.x]));
    atomicMax(&greatest, int(job.in[threadIdx.x]));
    __syncthreads();
    if (threadIdx.x == 0) job.out[0] = float(least), job.out[1] = float(greatest);
}

extern "C" __global__ void log_of_blocks(const Job job) {
    __shared__ int place;
    if (threadIdx.x == 0) place = 0;
    int *count = reinterpret_cast<int *>(job.out) + job.n;
    job.out[(*count)++] = float(blockIdx.x * blockDim.x + threadIdx.x);
}

extern "C" __global__ void exchanged(const Job job) {  // by warps that need no barrier, or by all threads, who do
    __shared__ float kept[256];
    const int thread = threadIdx.x;
    kept[thread] = job.in[thread];
    __syncwarp();
    job.out[thread] = kept[thread ^ (job.n - 1)];
}

extern "C" __global__ void unwritten(const Job job) {
    __shared__ float kept[64];
    if (int(threadIdx.x) != job.n) kept[threadIdx.x] = 1.0f;
    __syncthreads();
    job.out[threadIdx.x] = kept[threadIdx.x];
}

extern "C" __global__ void moved(const Job job) {
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    job.out[place] = job.in[place + job.n];
}

extern "C" __global__ void different_barriers(const Job job) {
    if (int(threadIdx.x) < job.n) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}

extern "C" __global__ void barrier_and_shuffle(const Job job) {
    if (int(threadIdx.x) < job.n) __syncthreads();
    else __shfl_sync(~0u, 1, 0);
}

extern "C" __global__ void some_have_ended(const Job job) {
    if (int(threadIdx.x) >= job.n) return;
    __syncwarp();
    __syncthreads();
    job.out[threadIdx.x] = 1.0f;
}

extern "C" __global__ void taken_from_nobody(const Job job) {
    const int lane = threadIdx.x;
    if (lane < 16) job.out[lane] = __shfl_sync(0xffff, job.factor, job.n);
}

extern "C" __global__ void not_of_the_mask(const Job job) { __syncwarp(unsigned(job.n)); }

extern "C" __global__ void undefined(const Job job) {
    __shared__ float kept[64];
    const int n = job.n;
    if (threadIdx.x != 3) return;
    if (n == 0) kept[threadIdx.x + 61] = 1.0f;
    if (n == 1) kept[0] = reinterpret_cast<const float2 *>(job.in + 1)->y;
    if (n == 2) kept[0] = __ldg(reinterpret_cast<const float2 *>(job.in + 1)).y;
    if (n == 3) kept[0] = float(1 << (n + 29));
    if (n == 4) kept[0] = float(1 / (n - 4));
    if (n == 5) kept[0] = float(n + 0x7fffffff);
    if (n == 6) kept[0] = float(n * 0x7fffffff);
    if (n == 7) for (volatile int i = 0; i < n; ) { }
    job.out[0] = kept[0];
}

struct alignas(32) Wide {
    float *out;
};
extern "C" __global__ void wide(const Wide job) { job.out[0] = 1.0f; }
"""
KERNELS = re.findall(r"(\w+)\(const \w+ job\)", SOURCE)


def line_of(text: str) -> int:
    """Of the first line of the source that holds a text."""
    return next(i for i, line in enumerate(SOURCE.splitlines(), start=1) if text in line)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "kernels.cu").write_text(SOURCE)
    return folder


@pytest.fixture(scope="module")
def kernels(folder: Path) -> Emulator:
    return build(folder / "kernels.cu", KERNELS, {"BARRIER": "__syncthreads();"}, folder)


def sums(kernels: Emulator, order: int) -> Tensor:
    x, out = torch.arange(1000.0), torch.zeros(4)
    kernels.launch("sum", 4, 256, [x, out, 1000, 0.5], order=order)
    return out


@pytest.mark.parametrize("order", ORDERS)
def test_sums_of_blocks_are_right_in_every_order(kernels: Emulator, order: int) -> None:
    expected = 0.5 * torch.arange(1000.0)
    assert sums(kernels, order).tolist() == [part.sum().item() for part in expected.split(256)]


def test_a_missing_barrier_shows(kernels: Emulator, folder: Path) -> None:
    racing = build(folder / "kernels.cu", ["sum"], {"BARRIER": ""}, folder)  # beside the other, with memory of its own
    assert any(not torch.equal(sums(racing, order), sums(kernels, order)) for order in (0, 1))


@pytest.mark.parametrize("order", ORDERS)
def test_a_barrier_of_warps_is_none_of_blocks(kernels: Emulator, order: int) -> None:
    x, within, beyond = torch.randn(256), torch.zeros(256), torch.zeros(256)
    kernels.launch("exchanged", 1, 256, [x, within, 32, 0.0], order=order)
    assert torch.equal(within, x.view(8, 32).flip(1).flatten())
    kernels.launch("exchanged", 1, 256, [x, beyond, 64, 0.0], order=order)
    assert beyond.isnan().any()  # the first warp reads what the second has not yet written, or the other way round


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("width", [32, 8])
def test_shuffles(kernels: Emulator, width: int, order: int) -> None:
    x, out = torch.arange(64.0), torch.zeros(2, 64)
    kernels.launch("shuffled", 1, 64, [x, out, width, 0.0], order=order)
    groups = x.view(-1, width)
    assert torch.equal(out[0].view(-1, width), groups.sum(1, keepdim=True).expand_as(groups))
    assert torch.equal(out[1].view(-1, width), groups.roll(-1, 1))


def test_votes_and_reductions(kernels: Emulator) -> None:
    x, out = torch.arange(64.0).sub(29), torch.zeros(64, 4)
    kernels.launch("voted", 1, 64, [x, out, 0, 0.0])
    assert out[:32].unique(dim=0).tolist() == [[-29, 2, 0b1100, 0]]
    assert out[32:].unique(dim=0).tolist() == [[3, 34, 0b1111, 1]]
    kernels.launch("extremes", 1, 64, [x, out, 0, 0.0])
    assert out.flatten()[:2].tolist() == [-29, 34]


def test_orders(kernels: Emulator) -> None:
    def ran(order: int) -> list[float]:
        out = torch.zeros(73)
        kernels.launch("log_of_blocks", 2, 36, [None, out, 72, 0.0], order=order)  # its second warp has four lanes
        return out[:-1].tolist()

    assert ran(0) == list(range(72))
    assert ran(1) == list(range(71, -1, -1))
    assert sorted(ran(2)) == sorted(ran(3)) == ran(0)
    assert ran(2) == ran(2)
    assert len({tuple(ran(order)) for order in ORDERS}) == len(ORDERS)


def test_unwritten_shared_memory_is_nan(kernels: Emulator) -> None:
    out = torch.zeros(64)
    for n in (5, 6):  # and what the launch before has left is gone
        kernels.launch("unwritten", 1, 64, [None, out, n, 0.0])
        assert out.isnan().nonzero().tolist() == [[n]]


@pytest.mark.parametrize("order", ORDERS)
def test_threads_that_have_ended_are_not_waited_for(kernels: Emulator, order: int) -> None:
    out = torch.zeros(64)
    kernels.launch("some_have_ended", 1, 64, [None, out, 40, 0.0], order=order)
    assert out.tolist() == [1.0] * 40 + [0.0] * 24


@pytest.mark.parametrize("flush", ["start", "end"])
def test_numbers_come_from_and_go_to_tensors(kernels: Emulator, flush: Flush) -> None:
    x, out = torch.randn(105), torch.zeros(100)
    kernels.launch("moved", 2, 50, [x, out, 5, 0.0], flush=flush)
    assert torch.equal(out, x[5:])


def test_memory_that_is_not_there(kernels: Emulator) -> None:
    x, out = torch.randn(100), torch.zeros(100)
    past = r"moved, block 1, thread 49: .*, 0 bytes past the end of arguments\[0\] of moved"
    with pytest.raises(RuntimeError, match=past):
        kernels.launch("moved", 2, 50, [x, out, 1, 0.0])
    before = r"moved, block 0, thread 6: .*, 4 bytes before the start of arguments\[0\] of moved"
    with pytest.raises(RuntimeError, match=before):
        kernels.launch("moved", 2, 50, [x, out, -7, 0.0], order=1, flush="start")
    with pytest.raises(RuntimeError, match=r"block 1, thread 0: .*, 0 bytes past the end of arguments\[1\] of moved"):
        kernels.launch("moved", 2, 50, [x, out[:50].clone(), 0, 0.0])
    with pytest.raises(RuntimeError, match=r"something was written past the end of arguments\[1\] of moved"):
        kernels.launch("moved", 2, 50, [x, out[:99].clone(), 0, 0.0], flush="start")  # its page goes on
    with pytest.raises(RuntimeError, match="block 0, thread 0: no memory for it at address"):
        kernels.launch("moved", 1, 50, [None, out, 0, 0.0])
    kernels.launch("moved", 2, 50, [x, out, 0, 0.0])
    assert torch.equal(out, x)  # all is well again


def test_barriers_that_do_not_match_are_errors(kernels: Emulator) -> None:
    first = line_of("different_barriers") + 2
    with pytest.raises(RuntimeError, match="different_barriers, block 0: threads are at different barriers") as error:
        kernels.launch("different_barriers", 1, 64, [None, None, 10, 0.0])
    assert f"threads 0 to 9 wait in __syncthreads at line {first};" in str(error.value)
    assert str(error.value).endswith(f"threads 10 to 63 wait in __syncthreads at line {first + 2}")
    kernels.launch("different_barriers", 1, 64, [None, None, 64, 0.0])

    with pytest.raises(
        RuntimeError, match="threads wait for one another: threads 0 to 9 wait in __syncthreads"
    ) as error:
        kernels.launch("barrier_and_shuffle", 2, 32, [None, None, 10, 0.0])
    line = line_of("else __shfl_sync")
    assert str(error.value).endswith(f"threads 10 to 31 wait in __shfl_sync at line {line} for lanes 0xffffffff")


def test_lanes_that_do_not_take_part_are_errors(kernels: Emulator) -> None:
    out = torch.zeros(32)
    kernels.launch("taken_from_nobody", 1, 32, [None, out, 15, 2.0])
    assert out.tolist() == [2.0] * 16 + [0.0] * 16
    with pytest.raises(RuntimeError, match="thread 0: takes the value of a lane that does not take part"):
        kernels.launch("taken_from_nobody", 1, 32, [None, out, 16, 2.0])
    with pytest.raises(RuntimeError, match="thread 7: its own lane is not in the mask"):
        kernels.launch("not_of_the_mask", 1, 8, [None, None, 0x7F, 2.0])


@pytest.mark.parametrize(
    ("n", "what"),
    [
        (0, "an index outside of its array"),
        (1, "an address that is not aligned for its type"),
        (2, "an address that is not aligned for its type"),
        (3, "a shift by less than 0 or by all bits and more"),
        (4, "an integer division by zero or beyond the range"),
        (5, "an integer sum beyond the range"),
        (6, "an integer product beyond the range"),
        (7, "is still busy when the launch's time is over"),
    ],
)
def test_undefined_behaviour_and_endless_loops_are_errors(kernels: Emulator, n: int, what: str) -> None:
    line = "$" if n == 7 else f" at line {line_of(f'if (n == {n})')}$"
    with pytest.raises(RuntimeError, match=f"undefined, block 0, thread 3: {what}{line}"):
        kernels.launch("undefined", 1, 4, [torch.zeros(4), torch.zeros(1), n, 0.0], seconds=0.1)


def test_arguments_that_do_not_suit_are_refused(kernels: Emulator) -> None:
    x, out = torch.zeros(64), torch.zeros(64)
    with pytest.raises(ValueError, match="moved takes 4 arguments, those of its struct, got 3"):
        kernels.launch("moved", 1, 64, [x, out, 0])
    with pytest.raises(ValueError, match=r"arguments\[2\] of moved must be int, got 0.5"):
        kernels.launch("moved", 1, 64, [x, out, 0.5, 0.0])
    with pytest.raises(ValueError, match=r"arguments\[1\] of moved must be Tensor or None, got 7"):
        kernels.launch("moved", 1, 64, [x, 7, 0, 0.0])
    with pytest.raises(ValueError, match=r"arguments\[2\] of moved must fit into 32 bits, got 2147483648"):
        kernels.launch("moved", 1, 64, [x, out, 2**31, 0.0])
    with pytest.raises(ValueError, match=r"arguments\[0\] of moved must be contiguous"):
        kernels.launch("moved", 1, 32, [x[::2], out, 0, 0.0])
    with pytest.raises(RuntimeError, match="wide takes 32 bytes of arguments, got 8"):
        kernels.launch("wide", 1, 1, [out])
    with pytest.raises(RuntimeError, match="one block or more, of 1 to 1024 threads"):
        kernels.launch("moved", 1, 1025, [x, out, 0, 0.0])


def test_what_does_not_compile_says_why(tmp_path: Path) -> None:
    source = tmp_path / "wrong.cu"
    source.write_text('struct Job { float *out; };\nextern "C" __global__ void k(Job job) { job.in[0] = 1; }\n')
    with pytest.raises(RuntimeError, match=r"wrong\.cu:2:.*no member named"):
        build(source, ["k"], {}, tmp_path)
    source.write_text('struct Job { float *out; double x; };\nextern "C" __global__ void k(Job job) {}\n')
    with pytest.raises(RuntimeError, match="a field is a pointer, an int or a float"):
        build(source, ["k"], {}, tmp_path)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compiler() is None
    with pytest.raises(RuntimeError, match="found no C\\+\\+ compiler"):
        build(tmp_path / "kernels.cu", [], {}, tmp_path)
