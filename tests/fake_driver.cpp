// What stands in for libcuda.so.1: it answers the few calls that start a kernel on device 3, and keeps what the last
// start was given.

#include <stdint.h>
#include <string.h>

typedef int CUresult; // 0 is success

struct Started {
    char kernel[32];
    unsigned grid[3], block[3], shared_bytes;
    void *stream, *context;
    unsigned char fields[256]; // of the one parameter
};

extern "C" {
Started started;
int n_retained, n_loaded;
CUresult answer = 0; // of the next start, to be set by the test
int n_bytes;         // of its parameter, to be set by the test
}

static thread_local void *current;
static int context_of_device, library;
static char kernels[8][32];

static CUresult cuInit(unsigned) { return 0; }
static CUresult cuCtxGetCurrent(void **context) {
    *context = current;
    return 0;
}
static CUresult cuCtxSetCurrent(void *context) {
    current = context;
    return 0;
}
static CUresult cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal == 3 ? 0 : 101; // CUDA_ERROR_INVALID_DEVICE
}
static CUresult cuDevicePrimaryCtxRetain(void **context, int device) {
    n_retained++;
    *context = &context_of_device;
    return device == 3 ? 0 : 101;
}
static CUresult cuLibraryLoadData(void **made, const void *code, void *, void *, unsigned n_jit, void *, void *,
                                  unsigned n_library) {
    n_loaded++;
    *made = &library;
    bool machine_code = !memcmp(code, "\177ELF", 4);
    return machine_code && !n_jit && !n_library ? 0 : 200; // CUDA_ERROR_INVALID_IMAGE
}
static CUresult cuLibraryGetKernel(void **kernel, void *from, const char *name) {
    for (auto &known : kernels)
        if (!known[0] || !strcmp(known, name)) {
            strncpy(known, name, sizeof known - 1);
            *kernel = known;
            return from == &library ? 0 : 400; // CUDA_ERROR_INVALID_HANDLE
        }
    return 500; // CUDA_ERROR_NOT_FOUND
}
static CUresult cuLaunchKernel(void *kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                               unsigned block_y, unsigned block_z, unsigned shared_bytes, void *stream,
                               void **parameters, void **extra) {
    started = {{}, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, stream, current, {}};
    strcpy(started.kernel, static_cast<char *>(kernel));
    memcpy(started.fields, parameters[0], n_bytes);
    return extra ? 1 : answer;
}

struct Entry {
    const char *name;
    void *address;
};
#define ENTRY(function) {#function, reinterpret_cast<void *>(function)}
static const Entry entries[] = {
    ENTRY(cuInit), ENTRY(cuCtxGetCurrent), ENTRY(cuCtxSetCurrent), ENTRY(cuDeviceGet), ENTRY(cuDevicePrimaryCtxRetain),
    ENTRY(cuLibraryLoadData), ENTRY(cuLibraryGetKernel), ENTRY(cuLaunchKernel),
};

extern "C" CUresult cuGetProcAddress_v2(const char *name, void **address, int, uint64_t, int *status) {
    *address = nullptr;
    for (const Entry &entry : entries)
        if (!strcmp(entry.name, name))
            *address = entry.address;
    if (status)
        *status = *address ? 0 : 1; // not found in this version
    return 0;
}
