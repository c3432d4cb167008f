// Runs kernels on a CPU, for tests: one fibre for each CUDA thread of a block; a barrier is a place where fibres take turns.
//
// Blocks run one after the other. Between barriers each fibre runs alone, in an order that the caller names, so a missing
// barrier shows: whoever comes first reads what others have not written yet. Shared memory is filled with NaN before each block.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// A section of its own, so that it can be filled.
#define __shared__ static __attribute__((section("kiln_shared")))

struct dim3 {
    unsigned x, y, z;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

namespace host {

// Fibres that wait for each other.
struct Barrier {
    int needed = 0, arrived = 0, turn = 0;
};

struct Fibre {
    ucontext_t context;
    std::vector<char> stack;
    bool done;
    dim3 thread;
    Barrier* warp;
    uint64_t shown;
};

inline std::vector<Fibre> fibres;
inline std::vector<Barrier> warps;
inline Barrier block;
inline ucontext_t owner;
inline unsigned current;
inline dim3 block_index, block_size, grid_size;
inline void (*body)(void*);
inline void* argument;

inline Fibre& me() { return fibres[current]; }

inline void wait(Barrier& barrier) {
    int turn = barrier.turn;
    if (++barrier.arrived >= barrier.needed) {
        barrier.arrived = 0;
        barrier.turn++;
    } else {
        unsigned mine = current;
        while (barrier.turn == turn) swapcontext(&fibres[mine].context, &owner);
    }
}

// Who has returned is not waited for.
inline void leave(Barrier& barrier) {
    if (--barrier.needed > 0 && barrier.arrived >= barrier.needed) {
        barrier.arrived = 0;
        barrier.turn++;
    }
}

inline void enter() {
    body(argument);
    me().done = true;
    leave(block);
    leave(*me().warp);
    swapcontext(&me().context, &owner);
}

// The value that lane `from` of this warp shows at the same shuffle.
template <class T>
T shuffled(T value, unsigned from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves one word");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    me().shown = bits;
    wait(*me().warp);
    bits = fibres[(current & ~31u) | (from & 31u)].shown;
    memcpy(&value, &bits, sizeof value);
    wait(*me().warp);
    return value;
}

// A permutation of `count` threads: ascending (0), descending (1), or shuffled by a linear congruence.
inline std::vector<unsigned> order(unsigned count, unsigned which) {
    std::vector<unsigned> threads(count);
    for (unsigned i = 0; i < count; i++) threads[i] = which == 1 ? count - 1 - i : i;
    uint64_t state = which * 0x9E3779B97F4A7C15ull;
    for (unsigned i = count; which > 1 && i > 1; i--) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        std::swap(threads[i - 1], threads[(state >> 33) % i]);
    }
    return threads;
}

extern "C" char __start_kiln_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_kiln_shared[] __attribute__((weak, visibility("hidden")));

inline void launch(dim3 grid, dim3 size, unsigned which, void (*kernel)(void*), void* arguments) {
    unsigned count = size.x * size.y * size.z;
    grid_size = grid;
    block_size = size;
    body = kernel;
    argument = arguments;
    if (fibres.size() < count) fibres = std::vector<Fibre>(count);
    std::vector<unsigned> turns = order(count, which);
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                block_index = {x, y, z};
                if (__start_kiln_shared) memset(__start_kiln_shared, 0xff, __stop_kiln_shared - __start_kiln_shared);
                block = Barrier();
                block.needed = count;
                warps.assign((count + 31) / 32, Barrier());
                for (unsigned i = 0; i < count; i++) {
                    Fibre& fibre = fibres[i];
                    if (fibre.stack.empty()) fibre.stack.resize(64 * 1024);
                    fibre.done = false;
                    fibre.thread = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
                    fibre.warp = &warps[i / 32];
                    fibre.warp->needed++;
                    getcontext(&fibre.context);
                    fibre.context.uc_stack.ss_sp = fibre.stack.data();
                    fibre.context.uc_stack.ss_size = fibre.stack.size();
                    fibre.context.uc_link = &owner;
                    makecontext(&fibre.context, enter, 0);
                }
                for (unsigned left = count; left > 0;) {
                    left = 0;
                    for (unsigned i : turns) {
                        if (fibres[i].done) continue;
                        current = i;
                        swapcontext(&owner, &fibres[i].context);
                        left += !fibres[i].done;
                    }
                }
            }
}

// Calls a kernel with arguments from an array of pointers, as cuLaunchKernel does.
template <class... A, size_t... I>
void apply(void (*kernel)(A...), void** values, std::index_sequence<I...>) {
    kernel(*(std::remove_reference_t<A>*)values[I]...);
}

template <auto KERNEL>
struct Entry;

template <class... A, void (*KERNEL)(A...)>
struct Entry<KERNEL> {
    static void run(void* values) { apply(KERNEL, (void**)values, std::index_sequence_for<A...>()); }
};

struct Named {
    const char* name;
    void (*run)(void*);
};

}  // namespace host

#define threadIdx (host::me().thread)
#define blockIdx (host::block_index)
#define blockDim (host::block_size)
#define gridDim (host::grid_size)

inline void __syncthreads() { host::wait(host::block); }
inline void __syncwarp(unsigned = 0xffffffffu) { host::wait(*host::me().warp); }
inline void __threadfence() {}

template <class T>
T __shfl_xor_sync(unsigned, T value, int distance) {
    return host::shuffled(value, (host::current & 31) ^ distance);
}
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
    return host::shuffled(value, lane);
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned distance) {
    unsigned lane = host::current & 31;
    return host::shuffled(value, lane + distance < 32 ? lane + distance : lane);
}
template <class T>
T __shfl_up_sync(unsigned, T value, unsigned distance) {
    unsigned lane = host::current & 31;
    return host::shuffled(value, lane >= distance ? lane - distance : lane);
}

inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}
inline int __float_as_int(float value) { return (int)__float_as_uint(value); }
inline float __int_as_float(int bits) { return __uint_as_float((unsigned)bits); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline int __float2int_rn(float a) { return (int)nearbyintf(a); }

template <class T, class U>
T atomicAdd(T* place, U value) {
    T before = *place;
    *place = before + (T)value;
    return before;
}
template <class T, class U>
T atomicMax(T* place, U value) {
    T before = *place;
    if ((T)value > before) *place = (T)value;
    return before;
}
template <class T, class U>
T atomicMin(T* place, U value) {
    T before = *place;
    if ((T)value < before) *place = (T)value;
    return before;
}
template <class T, class U, class V>
T atomicCAS(T* place, U expected, V value) {
    T before = *place;
    if (before == (T)expected) *place = (T)value;
    return before;
}

// Kernels by name; the file that includes this one defines the table, which ends with a null.
extern const host::Named kiln_kernels[];

extern "C" __attribute__((visibility("default"))) int kiln_emulate(const char* name, const unsigned* grid, const unsigned* size, unsigned which, void** values) {
    for (const host::Named* kernel = kiln_kernels; kernel->name; kernel++)
        if (strcmp(kernel->name, name) == 0) {
            host::launch({grid[0], grid[1], grid[2]}, {size[0], size[1], size[2]}, which, kernel->run, values);
            return 0;
        }
    return 1;
}
