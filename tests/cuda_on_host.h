// CUDA C++ on a processor: this header before a source lets g++ compile it, and `EXPORT` makes its kernels callable.
//
// Threads of a block are fibers, of which the first that can go on, in an order that the caller chooses, runs until it
// waits for others; blocks follow one another. So a warp goes as far as it can before the next one begins, and of two
// threads between which a barrier is missing either comes first in some order. Shared memory is all NaN when a block
// begins. What CUDA leaves undefined (lanes that wait for one another in different places, a shuffle from a lane that
// does not take part, memory that is not there) ends a launch with a text that says where.
//
// Left out are threads and grids of more than one dimension, shared memory in templates and in inline functions, where
// g++ keeps no section for it, and all that a GPU does at the same time or in another order than it is written.

#pragma once

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("cuda_shared")))

// The linker's names for the ends of that section; null where a source has no shared memory.
extern "C" __attribute__((weak, visibility("hidden"))) char __start_cuda_shared[], __stop_cuda_shared[];

struct uint3 {
    unsigned x, y, z;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(4) short2 {
    short x, y;
};
struct alignas(8) int2 {
    int x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline short2 make_short2(short x, short y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }

uint3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulator {

constexpr int MOST_THREADS = 1024;
constexpr size_t STACK = 1 << 17, GUARD = 1 << 14; // bytes of a fiber, and below it what nobody may touch

struct Fiber;

struct Operation { // that threads do together
    const char *name;
    void (*finish)(Fiber *warp, unsigned lanes); // once all are there
};

struct Fiber {
    jmp_buf place;          // where it goes on
    bool begun, live;
    const Operation *waits; // in what, or null
    int line;               // of the source, where it waits
    unsigned mask;          // of the lanes that it waits for, or 0 for all threads
    int source;             // the lane whose value it takes
    uint64_t value, taken;  // what it brings, and what it goes away with
};

struct Warp {
    unsigned live, waiting; // lanes; those that wait for lanes
};

// One launch at a time.
inline Fiber fibers[MOST_THREADS];
inline Warp warps[MOST_THREADS / warpSize];
inline uint64_t ready[MOST_THREADS / 64]; // a bit for each rank
inline int rank_of[MOST_THREADS], thread_of[MOST_THREADS];
inline int n_live, n_at_barrier;
inline const char *kernel_name;
inline void (*body)(); // of a thread
inline sigjmp_buf launch;
inline ucontext_t beginning;
inline char *stacks;
inline char text[4096];

enum { ENDED = 1, FAILED };

inline void say(const char *format, ...) {
    size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, sizeof text - length, format, arguments);
    va_end(arguments);
}

[[noreturn]] inline void fail(int thread, const char *problem, int line = 0) {
    text[0] = 0;
    say("%s, block %u, thread %d: %s", kernel_name, blockIdx.x, thread, problem);
    if (line)
        say(" at line %d", line);
    siglongjmp(launch, FAILED);
}

inline bool wait_alike(const Fiber &one, const Fiber &other) {
    if (!one.live || !other.live)
        return one.live == other.live;
    return one.waits == other.waits && one.line == other.line && one.mask == other.mask;
}

// No thread can go on: tell where each one waits.
[[noreturn]] inline void fail_waiting(const char *problem) {
    text[0] = 0;
    say("%s, block %u: %s:", kernel_name, blockIdx.x, problem);
    for (int first = 0, end; first < int(blockDim.x); first = end) {
        const Fiber &fiber = fibers[first];
        for (end = first + 1; end < int(blockDim.x) && wait_alike(fiber, fibers[end]);)
            end++;
        say("%s threads %d to %d", first ? ";" : "", first, end - 1);
        if (fiber.live)
            say(" wait in %s at line %d", fiber.waits->name, fiber.line);
        else
            say(" have ended");
        if (fiber.live && fiber.mask)
            say(" for lanes 0x%x", fiber.mask);
    }
    siglongjmp(launch, FAILED);
}

inline void make_ready(int thread) {
    fibers[thread].waits = nullptr;
    ready[rank_of[thread] / 64] |= uint64_t(1) << rank_of[thread] % 64;
}

// Leave this thread for the first one that can go on.
[[noreturn]] inline void go_on() {
    for (int word = 0; word < MOST_THREADS / 64; word++)
        if (ready[word]) {
            int bit = __builtin_ctzll(ready[word]), thread = thread_of[64 * word + bit];
            ready[word] &= ready[word] - 1;
            threadIdx.x = thread;
            if (fibers[thread].begun)
                _longjmp(fibers[thread].place, 1);
            fibers[thread].begun = true;
            beginning.uc_stack.ss_sp = stacks + thread * (STACK + GUARD) + GUARD;
            beginning.uc_stack.ss_size = STACK;
            makecontext(&beginning, body, 0);
            setcontext(&beginning);
        }
    if (n_live)
        fail_waiting("threads wait for one another");
    siglongjmp(launch, ENDED);
}

// By itself, for what stands around `_setjmp` is not optimised well.
__attribute__((noinline)) inline void rest() {
    if (!_setjmp(fibers[threadIdx.x].place))
        go_on();
}

constexpr Operation BARRIER{"__syncthreads", nullptr};

// Threads that have ended do not count; all others have to be at one line.
inline void pass_barrier_if_all_are_there() {
    if (n_at_barrier == 0 || n_at_barrier < n_live)
        return;
    n_at_barrier = 0;
    int line = 0;
    for (int thread = 0; thread < int(blockDim.x); thread++)
        if (fibers[thread].live) {
            if (line && fibers[thread].line != line)
                fail_waiting("threads are at different barriers");
            line = fibers[thread].line;
        }
    for (int thread = 0; thread < int(blockDim.x); thread++)
        if (fibers[thread].live)
            make_ready(thread);
}

// Let lanes go on, if all of `mask` that have not ended wait in one operation for one another.
inline void part_if_all_are_there(int warp, const Operation *operation, unsigned mask) {
    unsigned lanes = mask & warps[warp].live;
    if (lanes & ~warps[warp].waiting)
        return;
    Fiber *first = fibers + warp * warpSize;
    for (unsigned left = lanes; left; left &= left - 1) {
        const Fiber &fiber = first[__builtin_ctz(left)];
        if (fiber.waits != operation || fiber.mask != mask)
            return;
    }
    operation->finish(first, lanes);
    warps[warp].waiting &= ~lanes;
    for (unsigned left = lanes; left; left &= left - 1)
        make_ready(warp * warpSize + __builtin_ctz(left));
}

inline void meet(const Operation *operation, unsigned mask, int line) {
    int thread = threadIdx.x, warp = thread / warpSize;
    unsigned lane = 1u << thread % warpSize;
    if (!(mask & lane))
        fail(thread, "its own lane is not in the mask of a warp's operation", line);
    Fiber &fiber = fibers[thread];
    fiber.waits = operation, fiber.mask = mask, fiber.line = line;
    warps[warp].waiting |= lane;
    part_if_all_are_there(warp, operation, mask);
    rest();
}

[[noreturn]] inline void end_thread() {
    int thread = threadIdx.x, warp = thread / warpSize;
    fibers[thread].live = false;
    warps[warp].live &= ~(1u << thread % warpSize);
    n_live--;
    pass_barrier_if_all_are_there();
    for (unsigned left = warps[warp].waiting; left; left &= left - 1) { // a lane less to wait for
        const Fiber &other = fibers[warp * warpSize + __builtin_ctz(left)];
        if (other.waits)
            part_if_all_are_there(warp, other.waits, other.mask);
    }
    go_on();
}

// What warps do together.

inline void nothing(Fiber *, unsigned) {}

inline void exchange(Fiber *warp, unsigned lanes) {
    for (unsigned left = lanes; left; left &= left - 1) {
        Fiber &fiber = warp[__builtin_ctz(left)];
        if (!(lanes >> fiber.source & 1))
            fail(int(&fiber - fibers), "takes the value of a lane that does not take part in the shuffle", fiber.line);
        fiber.taken = warp[fiber.source].value;
    }
}

inline void vote(Fiber *warp, unsigned lanes) {
    uint64_t votes = 0;
    for (int lane = 0; lane < warpSize; lane++)
        if (lanes >> lane & 1 && warp[lane].value)
            votes |= uint64_t(1) << lane;
    for (unsigned left = lanes; left; left &= left - 1)
        warp[__builtin_ctz(left)].taken = votes;
}

template <typename T, bool GREATEST> void reduce(Fiber *warp, unsigned lanes) {
    T best = T(warp[__builtin_ctz(lanes)].value);
    for (unsigned left = lanes; left; left &= left - 1) {
        T value = T(warp[__builtin_ctz(left)].value);
        if (GREATEST ? value > best : value < best)
            best = value;
    }
    for (unsigned left = lanes; left; left &= left - 1)
        warp[__builtin_ctz(left)].taken = uint64_t(best);
}

constexpr Operation SYNCWARP{"__syncwarp", nothing}, SHUFFLE{"__shfl_sync", exchange},
    SHUFFLE_XOR{"__shfl_xor_sync", exchange}, SHUFFLE_DOWN{"__shfl_down_sync", exchange}, ANY{"__any_sync", vote},
    BALLOT{"__ballot_sync", vote};
template <typename T> constexpr Operation LEAST{"__reduce_min_sync", reduce<T, false>};
template <typename T> constexpr Operation GREATEST{"__reduce_max_sync", reduce<T, true>};

template <typename T>
T shuffle(const Operation *operation, unsigned mask, T value, int source, int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles are of 4 or 8 bytes");
    Fiber &fiber = fibers[threadIdx.x];
    fiber.source = source;
    memcpy(&fiber.value, &value, sizeof value);
    meet(operation, mask, line);
    memcpy(&value, &fiber.taken, sizeof value);
    return value;
}

inline uint64_t together(const Operation *operation, unsigned mask, uint64_t value, int line) {
    Fiber &fiber = fibers[threadIdx.x];
    fiber.value = value;
    meet(operation, mask, line);
    return fiber.taken;
}

// The launch.

inline void on_signal(int signal, siginfo_t *what, void *) {
    char problem[64];
    if (signal == SIGVTALRM)
        fail(threadIdx.x, "is still busy when the launch's time is over");
    snprintf(problem, sizeof problem, "no memory for it at address %p", what->si_addr);
    fail(threadIdx.x, problem);
}

class Watch { // over memory that is not there, and over seconds of the processor's time
    static constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGVTALRM};
    struct sigaction before[3];
    stack_t stack_before;

    static void set_timer(double seconds) {
        itimerval timer{};
        timer.it_value.tv_sec = time_t(seconds);
        timer.it_value.tv_usec = suseconds_t((seconds - double(time_t(seconds))) * 1e6);
        setitimer(ITIMER_VIRTUAL, &timer, nullptr);
    }

  public:
    explicit Watch(double seconds) {
        static char stack[1 << 16];
        stack_t own{};
        own.ss_sp = stack, own.ss_size = sizeof stack;
        sigaltstack(&own, &stack_before);
        struct sigaction action {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        for (int i = 0; i < 3; i++)
            sigaction(SIGNALS[i], &action, &before[i]);
        set_timer(seconds);
    }
    ~Watch() {
        set_timer(0);
        for (int i = 0; i < 3; i++)
            sigaction(SIGNALS[i], &before[i], nullptr);
        sigaltstack(&stack_before, nullptr);
    }
};

// Numbers below `n` as they come, from the last one, or shuffled by a seed of 2 and more.
inline void arrange(int *numbers, int n, unsigned order, unsigned salt) {
    uint64_t state = order * 0x9e3779b97f4a7c15u + salt;
    for (int i = 0; i < n; i++)
        numbers[i] = order == 1 ? n - 1 - i : i;
    for (int i = n - 1; order > 1 && i > 0; i--) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        int other = int((state >> 33) % unsigned(i + 1)), kept = numbers[i];
        numbers[i] = numbers[other], numbers[other] = kept;
    }
}

inline void begin_block(unsigned order) {
    int n = blockDim.x;
    memset(ready, 0, sizeof ready);
    memset(warps, 0, sizeof warps);
    n_live = n, n_at_barrier = 0;
    arrange(thread_of, n, order, blockIdx.x + 1);
    for (int rank = 0; rank < n; rank++) {
        int thread = thread_of[rank];
        rank_of[thread] = rank;
        fibers[thread].begun = false, fibers[thread].live = true;
        warps[thread / warpSize].live |= 1u << thread % warpSize;
        make_ready(thread);
    }
    if (__start_cuda_shared)
        memset(__start_cuda_shared, 0xff, __stop_cuda_shared - __start_cuda_shared);
}

// By itself, as `rest` is. Returns an error text or null.
__attribute__((noinline)) inline const char *run_blocks(const int *blocks, unsigned order) {
    static unsigned n_begun;
    n_begun = 0;
    if (sigsetjmp(launch, 1) == FAILED)
        return text;
    if (n_begun == gridDim.x) // here comes whoever ends a block
        return nullptr;
    blockIdx = {unsigned(blocks[n_begun++]), 0, 0};
    begin_block(order);
    go_on();
}

inline bool make_stacks() {
    if (stacks)
        return true;
    void *made = mmap(nullptr, MOST_THREADS * (STACK + GUARD), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return false;
    stacks = static_cast<char *>(made);
    for (int thread = 0; thread < MOST_THREADS; thread++)
        if (mprotect(stacks + thread * (STACK + GUARD) + GUARD, STACK, PROT_READ | PROT_WRITE))
            return false;
    return getcontext(&beginning) == 0;
}

template <auto KERNEL, typename Job> inline Job job_of; // a copy for the threads of one kernel to begin with

template <auto KERNEL, typename Job> void thread_body() {
    KERNEL(job_of<KERNEL, Job>);
    end_thread();
}

// An error text, or null.
template <auto KERNEL, typename Job>
const char *run(void (*)(Job), const char *name, const void *bytes, size_t size, int blocks, int threads,
                unsigned order, double seconds) {
    kernel_name = name;
    text[0] = 0;
    if (size != sizeof(Job))
        say("%s takes %zu bytes of arguments, got %zu", name, sizeof(Job), size);
    else if (threads < 1 || threads > MOST_THREADS || blocks < 1)
        say("%s needs one block or more, of 1 to %d threads, got %d of %d", name, MOST_THREADS, blocks, threads);
    else if (!make_stacks())
        say("no memory for the stacks of threads");
    if (text[0])
        return text;
    memcpy(&job_of<KERNEL, Job>, bytes, size);
    body = thread_body<KERNEL, Job>;
    gridDim = {unsigned(blocks), 1, 1}, blockDim = {unsigned(threads), 1, 1};
    int *block_order = static_cast<int *>(malloc(blocks * sizeof(int)));
    arrange(block_order, blocks, order, 0);
    Watch watch(seconds);
    const char *error = run_blocks(block_order, order);
    free(block_order);
    return error;
}

// What the compiler's checks of undefined behaviour call, each with a place in the source before all else.

constexpr const char *MISALIGNED = "an address that is not aligned for its type";

struct Place {
    const char *file;
    unsigned line, column;
};

[[noreturn]] inline void fail_at(const void *place, const char *undefined) {
    fail(threadIdx.x, undefined, int(static_cast<const Place *>(place)->line));
}

// The fields of a struct, a letter each, found by trying what it can be made from.

template <typename T> struct Letter {
    static constexpr char value = 0;
};
template <typename T> struct Letter<T *> {
    static constexpr char value = 'P';
};
template <> struct Letter<int> {
    static constexpr char value = 'i';
};
template <> struct Letter<float> {
    static constexpr char value = 'f';
};

template <char LETTER> struct Field {
    template <typename T>
        requires(Letter<T>::value == LETTER)
    operator T() const;
};

template <typename Job, char... FOUND> const char *fields(void (*kernel)(Job)) {
    if constexpr (requires { Job{Field<FOUND>()..., Field<'P'>()}; })
        return fields<Job, FOUND..., 'P'>(kernel);
    else if constexpr (requires { Job{Field<FOUND>()..., Field<'i'>()}; })
        return fields<Job, FOUND..., 'i'>(kernel);
    else if constexpr (requires { Job{Field<FOUND>()..., Field<'f'>()}; })
        return fields<Job, FOUND..., 'f'>(kernel);
    else {
        static_assert(!requires { Job{Field<FOUND>()..., Field<0>()}; }, "a field is a pointer, an int or a float");
        static constexpr char found[] = {FOUND..., 0};
        return found;
    }
}

} // namespace emulator

// `launch_<kernel>`: an error text or null. `fields_<kernel>`: of its struct, P for a pointer, i for int, f for float.
#define EXPORT(kernel)                                                                                                 \
    extern "C" __attribute__((visibility("default"))) const char *fields_##kernel() {                                  \
        return emulator::fields(kernel);                                                                               \
    }                                                                                                                  \
    extern "C" __attribute__((visibility("default"))) const char *launch_##kernel(                                     \
        const void *bytes, size_t size, int blocks, int threads, unsigned order, double seconds) {                     \
        return emulator::run<kernel>(kernel, #kernel, bytes, size, blocks, threads, order, seconds);                   \
    }

extern "C" {
void __ubsan_handle_out_of_bounds_abort(void *place, void *) {
    emulator::fail_at(place, "an index outside of its array");
}
void __ubsan_handle_type_mismatch_v1_abort(void *place, void *) {
    emulator::fail_at(place, emulator::MISALIGNED);
}
void __ubsan_handle_shift_out_of_bounds_abort(void *place, void *, void *) {
    emulator::fail_at(place, "a shift by less than 0 or by all bits and more");
}
void __ubsan_handle_divrem_overflow_abort(void *place, void *, void *) {
    emulator::fail_at(place, "an integer division by zero or beyond the range");
}
void __ubsan_handle_add_overflow_abort(void *place, void *, void *) {
    emulator::fail_at(place, "an integer sum beyond the range");
}
void __ubsan_handle_sub_overflow_abort(void *place, void *, void *) {
    emulator::fail_at(place, "an integer difference beyond the range");
}
void __ubsan_handle_mul_overflow_abort(void *place, void *, void *) {
    emulator::fail_at(place, "an integer product beyond the range");
}
void __ubsan_handle_negate_overflow_abort(void *place, void *) {
    emulator::fail_at(place, "an integer negation beyond the range");
}
}

// What a kernel may call. The last argument is the line where it does.

inline void __syncthreads(int line = __builtin_LINE()) {
    emulator::Fiber &fiber = emulator::fibers[threadIdx.x];
    fiber.waits = &emulator::BARRIER, fiber.mask = 0, fiber.line = line;
    emulator::n_at_barrier++;
    emulator::pass_barrier_if_all_are_there();
    emulator::rest();
}

inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
    emulator::meet(&emulator::SYNCWARP, mask, line);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, int line = __builtin_LINE()) {
    int lane = threadIdx.x % warpSize;
    return emulator::shuffle(&emulator::SHUFFLE, mask, value, (lane & -width) | (source & (width - 1)), line);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int turned, int width = warpSize, int line = __builtin_LINE()) {
    int lane = threadIdx.x % warpSize, source = lane ^ turned;
    return emulator::shuffle(&emulator::SHUFFLE_XOR, mask, value, source < (lane & -width) + width ? source : lane,
                             line);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = warpSize, int line = __builtin_LINE()) {
    int lane = threadIdx.x % warpSize, source = lane + int(by);
    return emulator::shuffle(&emulator::SHUFFLE_DOWN, mask, value, source < (lane & -width) + width ? source : lane,
                             line);
}

inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return emulator::together(&emulator::ANY, mask, predicate != 0, line) != 0;
}

inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return unsigned(emulator::together(&emulator::BALLOT, mask, predicate != 0, line));
}

template <typename T> T __reduce_min_sync(unsigned mask, T value, int line = __builtin_LINE()) {
    return T(emulator::together(&emulator::LEAST<T>, mask, uint64_t(value), line));
}

template <typename T> T __reduce_max_sync(unsigned mask, T value, int line = __builtin_LINE()) {
    return T(emulator::together(&emulator::GREATEST<T>, mask, uint64_t(value), line));
}

template <typename T> T __ldg(const T *address, int line = __builtin_LINE()) {
    if (uintptr_t(address) % alignof(T))
        emulator::fail(threadIdx.x, emulator::MISALIGNED, line);
    return *address;
}

inline int atomicMin(int *address, int value) {
    int before = *address;
    *address = value < before ? value : before;
    return before;
}

inline int atomicMax(int *address, int value) {
    int before = *address;
    *address = value > before ? value : before;
    return before;
}

inline int __float_as_int(float value) { return __builtin_bit_cast(int, value); }
inline float __int_as_float(int value) { return __builtin_bit_cast(float, value); }

inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return b > a ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return b > a ? b : a; }
inline long long min(long long a, long long b) { return b < a ? b : a; }
inline long long max(long long a, long long b) { return b > a ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline float __log2f(float a) { return log2f(a); }
