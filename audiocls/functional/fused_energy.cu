// Frames of samples in, energies out, and nothing between them in memory. How and why is told in fused_kernels.py,
// which defines N_FFT, P, FRAMES, SAMPLE and PAIR, computes the tables and starts these kernels.

constexpr int M = N_FFT / 2;             // complex numbers in a frame: even samples are real parts, odd ones imaginary
constexpr int N_FREQS = M + 1;
constexpr int Q = M / P;                 // M = P Q
constexpr int LANES = Q;                 // threads of a frame
constexpr int THREADS = FRAMES * LANES;  // of a block
constexpr int COLUMNS = P / Q;           // of the second stage in a thread, 1 or 2
constexpr int PAIRS = COLUMNS * Q / 2;   // of a bin k and its mirror M - k in a thread
constexpr int ROW = Q + 1;               // of the exchange; so lanes neither write nor read one bank together
constexpr int STRIDE = P * ROW + (32 + LANES - P * ROW % 32) % 32;  // of frames in the exchange, for the same reason
constexpr int RESIDENT = P == 16 ? 3 : 2;  // blocks that a multiprocessor has registers for, without a spill
constexpr int SPACING = M + LANES % 16 + 1;  // of frames' powers: neighbours in a warp lie in other banks
constexpr unsigned ALL = 0xffffffff;

static_assert(P == Q || P == 2 * Q, "a thread has one column or two that mirror each other");
static_assert(FRAMES <= 32 && LANES <= 32 && THREADS % 32 == 0, "a frame lies in one warp");

struct Job {
    const SAMPLE *waveform;  // (clips, time)
    const float *window;     // (N_FFT,)
    const float2 *turns;     // (P, Q), e(k1 n2 / M) times half the unit of samples
    const float2 *halves;    // (M,), e(k / N_FFT)
    const float4 *weights;   // (groups, N_FREQS) of four filters each, or null
    const int2 *bands;       // (groups,), from and to which bin any of the four has weights
    float *out;              // (clips, n_bins, n_frames)
    int time, hop_length, left, first_frame, n_frames, n_tiles, n_bins, padding, magnitudes, logarithmic;
    float per_octave, offset, floor, shift;
};

struct Filterbank {
    const float *filters;  // (n_bins, N_FREQS)
    float4 *weights;       // (groups, N_FREQS)
    int2 *bands;           // (groups,)
    int n_bins;
};

__device__ __forceinline__ float2 operator+(float2 a, float2 b) { return make_float2(a.x + b.x, a.y + b.y); }
__device__ __forceinline__ float2 operator-(float2 a, float2 b) { return make_float2(a.x - b.x, a.y - b.y); }
__device__ __forceinline__ float2 operator*(float2 a, float2 b) {
    return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}
__device__ __forceinline__ float square(float2 a) { return a.x * a.x + a.y * a.y; }

// cos(2 pi i / 64), i from 0 to 16
__device__ constexpr float COSINE[17] = {
    1.0f,          0.995184727f,  0.98078528f,   0.956940336f, 0.923879533f, 0.881921264f,
    0.831469612f,  0.773010453f,  0.707106781f,  0.634393284f, 0.555570233f, 0.471396737f,
    0.382683432f,  0.290284677f,  0.195090322f,  0.0980171403f, 0.0f};

// a e(i / 64), for i below 48 and known to the compiler
__device__ __forceinline__ float2 turned(float2 a, int i) {
    if (i >= 32) a = make_float2(a.y, -a.x), i -= 16;
    if (i >= 16) a = make_float2(a.y, -a.x), i -= 16;
    if (i == 0) return a;
    if (i == 8) return make_float2((a.x + a.y) * COSINE[8], (a.y - a.x) * COSINE[8]);
    return a * make_float2(COSINE[i], -COSINE[16 - i]);
}

// The transform of LENGTH numbers, in place; number i is then that of bin<LENGTH>(i).
template <int LENGTH> __device__ __forceinline__ void transform(float2 *v) {
    if constexpr (LENGTH == 2) {
        const float2 a = v[0];
        v[0] = a + v[1];
        v[1] = a - v[1];
    } else if constexpr (LENGTH >= 4) {
        constexpr int QUARTER = LENGTH / 4;
#pragma unroll
        for (int i = 0; i < QUARTER; ++i) {
            const float2 a = v[i] + v[i + 2 * QUARTER], b = v[i] - v[i + 2 * QUARTER];
            const float2 c = v[i + QUARTER] + v[i + 3 * QUARTER], d = turned(v[i + QUARTER] - v[i + 3 * QUARTER], 16);
            v[i] = a + c;
            v[i + QUARTER] = turned(b + d, i * 64 / LENGTH);
            v[i + 2 * QUARTER] = turned(a - c, 2 * i * 64 / LENGTH);
            v[i + 3 * QUARTER] = turned(b - d, 3 * i * 64 / LENGTH);
        }
#pragma unroll
        for (int part = 0; part < 4; ++part) transform<QUARTER>(v + part * QUARTER);
    }
}

template <int LENGTH> __device__ __forceinline__ constexpr int bin(int i) {
    if constexpr (LENGTH <= 2) return i;
    else return 4 * bin<LENGTH / 4>(i % (LENGTH / 4)) + i / (LENGTH / 4);
}

// Where number bin<LENGTH>(i) lies.
template <int LENGTH> __device__ __forceinline__ constexpr int place_of(int k) {
    if constexpr (LENGTH <= 2) return k;
    else return k % 4 * (LENGTH / 4) + place_of<LENGTH / 4>(k / 4);
}

// The sample at a place that may lie outside of the clip, where padding is 0 for zeros, 1 for one reflection, 2 for many.
__device__ __forceinline__ float sample_at(const SAMPLE *clip, long long place, int time, int padding) {
    if (padding == 0 && (place < 0 || place >= time)) return 0.0f;
    const int last = time - 1;
    if (padding == 2) {  // of a clip shorter than the padding
        const int period = max(2 * last, 1);
        place = (int(place) % period + period) % period;  // a remainder has the sign of what is divided
    }
    if (place < 0) place = -place;
    return clip[place > last ? last - (place - last) : place];
}

__device__ __forceinline__ float finished(float energy, const Job &job) {
    if (!job.logarithmic) return energy;
    energy += job.offset;
    energy = energy < job.floor ? job.floor : energy;  // nan stays nan
    return __log2f(energy) * job.per_octave - job.shift;
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) energy(const Job job) {
    __shared__ float shared[FRAMES * STRIDE];  // first the exchange between both stages, then powers, (frame, bin)

    const int lane = threadIdx.x % LANES, own = threadIdx.x / LANES;
    const long long clip = blockIdx.x / job.n_tiles;  // times the length of a clip may pass 2^31
    const int first = blockIdx.x % job.n_tiles * FRAMES;

    // Windowed samples: number n1 is that of n1 Q + lane.
    float2 v[P];
    const SAMPLE *samples = job.waveform + clip * job.time;
    const int begin = (job.first_frame + min(first + own, job.n_frames - 1)) * job.hop_length - job.left;
    const SAMPLE *from = samples + begin + 2 * lane;
    float *exchange = shared + own * STRIDE;
    if (begin < 0 || begin > job.time - N_FFT || first + own >= job.n_frames) {
        // Few frames are at an edge: a loop that stays one, through places of shared memory that no other lane touches.
        const bool wanted = first + own < job.n_frames;
#pragma unroll
        for (int part = 0; part < 2; ++part) {
#pragma unroll 1
            for (int i = 0; i < P; ++i) {
                const long long place = begin + (2LL * (i * Q + lane) + part);
                exchange[i * ROW + lane] = wanted ? sample_at(samples, place, job.time, job.padding) : 0.0f;
            }
#pragma unroll
            for (int i = 0; i < P; ++i) (part == 0 ? v[i].x : v[i].y) = exchange[i * ROW + lane];
        }
    } else if (reinterpret_cast<size_t>(from) % sizeof(PAIR) == 0) {
#pragma unroll
        for (int i = 0; i < P; ++i) {
            const PAIR pair = __ldg(reinterpret_cast<const PAIR *>(from) + i * Q);
            v[i] = make_float2(pair.x, pair.y);
        }
    } else {
#pragma unroll
        for (int i = 0; i < P; ++i) v[i] = make_float2(__ldg(from + 2 * i * Q), __ldg(from + 2 * i * Q + 1));
    }
    const float2 *window = reinterpret_cast<const float2 *>(job.window) + lane;
#pragma unroll
    for (int i = 0; i < P; ++i) {
        const float2 weight = __ldg(window + i * Q);
        v[i] = make_float2(v[i].x * weight.x, v[i].y * weight.y);
    }

    // First stage, over n1, and the turn of number (k1, n2 = lane).
    transform<P>(v);
#pragma unroll
    for (int i = 0; i < P; ++i) v[i] = v[i] * __ldg(job.turns + bin<P>(i) * Q + lane);

    // Rows become columns: a thread gets k1 = lane, and where it has two, the mirror of it, or P / 2, which is its own.
    const float *column[2] = {exchange + lane * ROW, exchange + (lane == 0 ? P / 2 : P - lane) * ROW};
#pragma unroll
    for (int i = 0; i < P; ++i) exchange[bin<P>(i) * ROW + lane] = v[i].x;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < P; ++i) v[i].x = column[i / Q][i % Q];
    __syncwarp();
#pragma unroll
    for (int i = 0; i < P; ++i) exchange[bin<P>(i) * ROW + lane] = v[i].y;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < P; ++i) v[i].y = column[i / Q][i % Q];

    // Second stage, over n2: numbers k1 + P k2 of the transform of M complex numbers, halved.
#pragma unroll
    for (int i = 0; i < COLUMNS; ++i) transform<Q>(v + i * Q);

    // From number k and its mirror M - k the bins k and M - k of the real samples.
    float power[2 * PAIRS];
    const int passed = lane == 0 ? P / 2 - P * (Q / 2) : 0;  // lane 0 of two columns has half of either's pairs
#pragma unroll
    for (int j = 0; j < PAIRS; ++j) {
        float2 number = v[place_of<Q>(j % Q)], mirror, own_mirror;
        if (COLUMNS == 2) {
            const bool second = j >= Q / 2;  // in lane 0 pairs of column 0, then of column P / 2
            const int k2 = second ? j - Q / 2 : j;
            mirror = v[Q + place_of<Q>(Q - 1 - j)];
            own_mirror = second ? v[Q + place_of<Q>(Q - 1 - k2)] : v[place_of<Q>((Q - k2) % Q)];
            if (second && lane == 0) number = v[Q + place_of<Q>(k2)];
        } else {
            const float2 sent = v[place_of<Q>(Q - 1 - j)];
            mirror.x = __shfl_sync(ALL, sent.x, LANES - lane, LANES);
            mirror.y = __shfl_sync(ALL, sent.y, LANES - lane, LANES);
            own_mirror = v[place_of<Q>((Q - j) % Q)];
        }
        if (lane == 0) mirror = own_mirror;
        const float2 even = make_float2(number.x + mirror.x, number.y - mirror.y);
        const float2 odd = make_float2(number.y + mirror.y, mirror.x - number.x);
        const int k = lane + P * j + (j < Q / 2 ? 0 : passed);
        const float2 turned_odd = odd * __ldg(job.halves + k);
        power[2 * j] = square(even + turned_odd);
        power[2 * j + 1] = square(even - turned_odd);
    }
    const float middle = 4.0f * square(v[place_of<Q>(Q / 2)]);  // in lane 0, of bin M / 2, which is its own mirror

    __syncthreads();  // all exchanges are over
    float *powers = shared + own * SPACING;  // an odd stride: one bin of many frames lies in as many banks
#pragma unroll
    for (int j = 0; j < PAIRS; ++j) {
        const int k = lane + P * j + (j < Q / 2 ? 0 : passed);
        powers[k] = job.magnitudes ? sqrtf(power[2 * j]) : power[2 * j];
        powers[M - k] = job.magnitudes ? sqrtf(power[2 * j + 1]) : power[2 * j + 1];
    }
    if (lane == 0) powers[M / 2] = job.magnitudes ? sqrtf(middle) : middle;
    __syncthreads();

    float *out = job.out + clip * job.n_bins * job.n_frames + first;
    if (job.weights == nullptr) {
        for (int i = threadIdx.x; i < N_FREQS * FRAMES; i += THREADS) {
            const int k = i / FRAMES, frame = i % FRAMES;
            if (first + frame < job.n_frames) {
                out[(long long)k * job.n_frames + frame] = finished(shared[frame * SPACING + k], job);
            }
        }
        return;
    }
    const int frame = threadIdx.x % FRAMES;
    if (first + frame >= job.n_frames) return;
    for (int group = threadIdx.x / FRAMES; 4 * group < job.n_bins; group += LANES) {
        const int2 band = __ldg(job.bands + group);
        const float4 *weights = job.weights + (long long)group * N_FREQS + band.x;
        const float *measured = shared + frame * SPACING + band.x;
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 4
        for (int left = band.y - band.x; left > 0; --left, ++weights, ++measured) {
            const float4 weight = __ldg(weights);
            sum[0] += weight.x * *measured;
            sum[1] += weight.y * *measured;
            sum[2] += weight.z * *measured;
            sum[3] += weight.w * *measured;
        }
#pragma unroll
        for (int i = 0; i < min(4, job.n_bins - 4 * group); ++i) {
            out[(long long)(4 * group + i) * job.n_frames + frame] = finished(sum[i], job);
        }
    }
}

// Four filters side by side, and from and to which bin any of them has weights; a block for each four.
extern "C" __global__ void __launch_bounds__(256) arrange(const Filterbank bank) {
    __shared__ int low, high;
    if (threadIdx.x == 0) low = N_FREQS, high = 0;
    __syncthreads();
    int own_low = N_FREQS, own_high = 0;
    for (int k = threadIdx.x; k < N_FREQS; k += blockDim.x) {
        float weight[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int filter = 4 * blockIdx.x + i;
            weight[i] = filter < bank.n_bins ? bank.filters[(long long)filter * N_FREQS + k] : 0.0f;
        }
        bank.weights[(long long)blockIdx.x * N_FREQS + k] = make_float4(weight[0], weight[1], weight[2], weight[3]);
        if (weight[0] != 0.0f || weight[1] != 0.0f || weight[2] != 0.0f || weight[3] != 0.0f) {
            own_low = min(own_low, k);
            own_high = k + 1;
        }
    }
    atomicMin(&low, own_low);
    atomicMax(&high, own_high);
    __syncthreads();
    if (threadIdx.x == 0) bank.bands[blockIdx.x] = make_int2(low, high);
}
