// The matrix product: out = start + a · b, each element one chain over k, in chunks of 512 (docs/numerics.md).
//
// A block computes a tile of the output. Both operands are brought, 16 deep, into shared memory, the next slice while
// the present one is worked on; each thread carries TM × TN chains in registers. A tile's size decides which thread
// computes an element and when, never how.
//
// Operands lie along the chain or across it, so that the kernels serve a · b, a · bᵀ and aᵀ · b. If the grid is deeper than one,
// each layer computes one chunk into its own part of the output, and `add_chunks` adds these up.
#include "functions.cuh"

#define CHUNK 512
#define DEPTH 16

// One operand: rows of the output (columns, for b) and steps of the chain. ALONG: element (row, depth) stands at
// `row · pitch + depth`, otherwise at `depth · pitch + row`.
template <bool ALONG>
struct Operand {
    const float* data;
    u32 pitch, rows;
    bool vector;
};

template <int ROWS>
struct Slice {
    // Four floats of padding keep quads aligned, and columns apart in the banks.
    float at[DEPTH][ROWS + 4];
};

template <bool ALONG>
KILN_DEVICE Operand<ALONG> operand(const float* data, u32 rows, u32 depth) {
    u32 pitch = ALONG ? depth : rows;
    Operand<ALONG> o = {data, pitch, rows, pitch % 4 == 0 && ((u64)data & 15) == 0};
    return o;
}

// Which four elements of a slice a thread brings: those that lie side by side in memory.
template <int ROWS, bool ALONG>
KILN_DEVICE void place(u32 quad, u32& row, u32& depth) {
    row = ALONG ? quad / (DEPTH / 4) : quad % (ROWS / 4) * 4;
    depth = ALONG ? quad % (DEPTH / 4) * 4 : quad / (ROWS / 4);
}

template <int ROWS, int THREADS, bool ALONG>
KILN_DEVICE void fetch(const Operand<ALONG>& o, u32 row0, u32 from, u32 to, float4 (&held)[ROWS * DEPTH / 4 / THREADS]) {
#pragma unroll
    for (int q = 0; q < ROWS * DEPTH / 4 / THREADS; q++) {
        u32 row, depth;
        place<ROWS, ALONG>(threadIdx.x + q * THREADS, row, depth);
        row += row0;
        depth += from;
        const float* source = o.data + (ALONG ? (u64)row * o.pitch + depth : (u64)depth * o.pitch + row);
        // How many of the four are inside; rows and slices outside of the operand have none.
        u32 inside = 0;
        if (row < o.rows && depth < to) inside = ALONG ? to - depth : o.rows - row;
        if (o.vector && inside >= 4) {
            held[q] = *(const float4*)source;
        } else {
            held[q].x = inside > 0 ? source[0] : 0.0f;
            held[q].y = inside > 1 ? source[1] : 0.0f;
            held[q].z = inside > 2 ? source[2] : 0.0f;
            held[q].w = inside > 3 ? source[3] : 0.0f;
        }
    }
}

template <int ROWS, int THREADS, bool ALONG>
KILN_DEVICE void put(Slice<ROWS>& slice, const float4 (&held)[ROWS * DEPTH / 4 / THREADS]) {
#pragma unroll
    for (int q = 0; q < ROWS * DEPTH / 4 / THREADS; q++) {
        u32 row, depth;
        place<ROWS, ALONG>(threadIdx.x + q * THREADS, row, depth);
        if (ALONG) {
            slice.at[depth][row] = held[q].x;
            slice.at[depth + 1][row] = held[q].y;
            slice.at[depth + 2][row] = held[q].z;
            slice.at[depth + 3][row] = held[q].w;
        } else {
            *(float4*)&slice.at[depth][row] = held[q];
        }
    }
}

// A thread's rows of the tile: groups of four, a whole tile's share apart, so that a warp reads neighbouring quads.
template <int SIZE, int PER>
KILN_DEVICE u32 index_of(u32 thread, u32 i) {
    return i / 4 * (SIZE / (PER / 4)) + thread * 4 + i % 4;
}

template <int SIZE, int PER>
KILN_DEVICE void load(const float* line, u32 thread, float (&values)[PER]) {
#pragma unroll
    for (int g = 0; g < PER / 4; g++) {
        float4 quad = *(const float4*)(line + index_of<SIZE, PER>(thread, g * 4));
        values[g * 4] = quad.x;
        values[g * 4 + 1] = quad.y;
        values[g * 4 + 2] = quad.z;
        values[g * 4 + 3] = quad.w;
    }
}

template <int BM, int BN, int TM, int TN, bool A_ALONG, bool B_ALONG>
KILN_DEVICE void product(Slice<BM> (&a_slices)[2], Slice<BN> (&b_slices)[2], Operand<A_ALONG> a, Operand<B_ALONG> b,
                         const float* start, float* out, u32 depth, u32 relu) {
    const int THREADS = (BM / TM) * (BN / TN);
    const u32 tx = threadIdx.x % (BN / TN), ty = threadIdx.x / (BN / TN);
    const u32 row0 = blockIdx.y * BM, col0 = blockIdx.x * BN;
    const u32 cols = b.rows;
    u32 from = 0, last = depth;
    bool alone = gridDim.z == 1;
    if (!alone) {
        from = blockIdx.z * CHUNK;
        last = depth - from < CHUNK ? depth : from + CHUNK;
        out += (u64)blockIdx.z * a.rows * cols;
    }
    float sums[TM][TN];
#pragma unroll
    for (int j = 0; j < TN; j++) {
        u32 col = col0 + index_of<BN, TN>(tx, j);
        float first = start && from == 0 && col < cols ? start[col] : 0.0f;
#pragma unroll
        for (int i = 0; i < TM; i++) sums[i][j] = first;
    }
    float4 a_held[BM * DEPTH / 4 / THREADS], b_held[BN * DEPTH / 4 / THREADS];
    u32 now = 0;
    fetch<BM, THREADS, A_ALONG>(a, row0, from, last, a_held);
    fetch<BN, THREADS, B_ALONG>(b, col0, from, last, b_held);
    put<BM, THREADS, A_ALONG>(a_slices[0], a_held);
    put<BN, THREADS, B_ALONG>(b_slices[0], b_held);
    __syncthreads();
    bool whole = true;
    do {
        u32 next = from + DEPTH;
        if (next < last) {
            fetch<BM, THREADS, A_ALONG>(a, row0, next, last, a_held);
            fetch<BN, THREADS, B_ALONG>(b, col0, next, last, b_held);
        }
        float x[TM], y[TN];
        if (next <= last) {
#pragma unroll
            for (int k = 0; k < DEPTH; k++) {
                load<BM, TM>(a_slices[now].at[k], ty, x);
                load<BN, TN>(b_slices[now].at[k], tx, y);
#pragma unroll
                for (int i = 0; i < TM; i++)
#pragma unroll
                    for (int j = 0; j < TN; j++) sums[i][j] = kiln_fma(x[i], y[j], sums[i][j]);
            }
        } else {
            // The chain ends within this slice: zeros that pad it are no part of the chain.
            for (u32 k = 0; k < last - from; k++) {
                load<BM, TM>(a_slices[now].at[k], ty, x);
                load<BN, TN>(b_slices[now].at[k], tx, y);
#pragma unroll
                for (int i = 0; i < TM; i++)
#pragma unroll
                    for (int j = 0; j < TN; j++) sums[i][j] = kiln_fma(x[i], y[j], sums[i][j]);
            }
        }
        if (next < last) {
            put<BM, THREADS, A_ALONG>(a_slices[now ^ 1], a_held);
            put<BN, THREADS, B_ALONG>(b_slices[now ^ 1], b_held);
            __syncthreads();
            now ^= 1;
        }
        from = next;
        // At the end of a chunk its sums are added to those before it, which wait in the output.
        if (from >= last || from % CHUNK == 0) {
            bool final = from >= last;
#pragma unroll
            for (int i = 0; i < TM; i++) {
                u32 row = row0 + index_of<BM, TM>(ty, i);
#pragma unroll
                for (int j = 0; j < TN; j++) {
                    u32 col = col0 + index_of<BN, TN>(tx, j);
                    if (row < a.rows && col < cols) {
                        float* target = out + (u64)row * cols + col;
                        float value = whole ? sums[i][j] : *target + sums[i][j];
                        *target = final && alone && relu ? kiln_relu(value) : value;
                    }
                    sums[i][j] = 0.0f;
                }
            }
            whole = false;
        }
    } while (from < last);
}

#define PRODUCT(NAME, BM, BN, TM, TN, BLOCKS, A_ALONG, B_ALONG)                                                                    \
    extern "C" __global__ void __launch_bounds__((BM / TM) * (BN / TN), BLOCKS)                                                   \
        NAME(const float* a, const float* b, const float* start, float* out, u32 rows, u32 cols, u32 depth, u32 relu) {           \
        __shared__ __align__(16) Slice<BM> a_slices[2];                                                                           \
        __shared__ __align__(16) Slice<BN> b_slices[2];                                                                           \
        product<BM, BN, TM, TN, A_ALONG, B_ALONG>(a_slices, b_slices, operand<A_ALONG>(a, rows, depth),                           \
                                                  operand<B_ALONG>(b, cols, depth), start, out, depth, relu);                     \
    }

// _nn: a is rows × depth, b is depth × cols. _nt: b is cols × depth. _tn: a is depth × rows.
PRODUCT(product_nn_128, 128, 128, 8, 8, 2, true, false)
PRODUCT(product_nt_128, 128, 128, 8, 8, 2, true, true)
PRODUCT(product_tn_128, 128, 128, 8, 8, 2, false, false)
PRODUCT(product_nn_64, 64, 64, 4, 4, 3, true, false)
PRODUCT(product_nt_64, 64, 64, 4, 4, 3, true, true)
PRODUCT(product_tn_64, 64, 64, 4, 4, 3, false, false)
PRODUCT(product_nn_32, 32, 32, 4, 4, 8, true, false)
PRODUCT(product_nt_32, 32, 32, 4, 4, 8, true, true)
PRODUCT(product_tn_32, 32, 32, 4, 4, 8, false, false)

// out = ((part 0 + part 1) + part 2) + …, each `count` elements; then relu, if asked for.
extern "C" __global__ void __launch_bounds__(256) add_chunks(const float* parts, float* out, u64 count, u32 chunks, u32 relu) {
    for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < count; i += (u64)gridDim.x * blockDim.x) {
        float sum = parts[i];
        for (u32 c = 1; c < chunks; c++) sum = sum + parts[c * count + i];
        out[i] = relu ? kiln_relu(sum) : sum;
    }
}

// Sums of one chunk of 512 rows for each column and layer of the grid, into that layer's part of the output.
extern "C" __global__ void __launch_bounds__(128) column_sums(const float* x, float* out, u32 rows, u32 cols) {
    u32 col = blockIdx.x * blockDim.x + threadIdx.x;
    if (col >= cols) return;
    u32 from = blockIdx.y * CHUNK, last = rows - from < CHUNK ? rows : from + CHUNK;
    const float* source = x + (u64)from * cols + col;
    float sum = 0.0f;
#pragma unroll 8
    for (u32 row = from; row < last; row++, source += cols) sum = sum + *source;
    out[(u64)blockIdx.y * cols + col] = sum;
}
