// The losses of a classifier: logits become their gradients, and each row tells its loss and whether it is classified rightly.
//
// Losses and hits of a step stand at `epoch_step · batch` in arrays for the whole epoch, which the host reads once.
#include "functions.cuh"

KILN_DEVICE float fold(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value = value + __shfl_xor_sync(0xffffffffu, value, distance);
    return value;
}

// One warp a row: lane l has classes l, l + 32, …, which are the lanes of the row sum.
extern "C" __global__ void __launch_bounds__(256)
    softmax_cross_entropy(float* logits, const u32* labels, float* losses, u32* hits, const Progress* progress, u32 rows, u32 classes,
                          u32 batch, float scale) {
    u32 row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    float* z = logits + (u64)row * classes;
    u32 label = labels[row];
    float logit = z[label];
    float largest = __uint_as_float(0xff800000u), best = largest;
    u32 guess = 0xffffffffu;
    for (u32 c = lane; c < classes; c += 32) {
        largest = kiln_maximum(largest, z[c]);
        if (guess == 0xffffffffu || z[c] > best) {
            best = z[c];
            guess = c;
        }
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        largest = kiln_maximum(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
        float other = __shfl_xor_sync(0xffffffffu, best, distance);
        u32 theirs = __shfl_xor_sync(0xffffffffu, guess, distance);
        if (theirs != 0xffffffffu && (guess == 0xffffffffu || other > best || (other == best && theirs < guess))) {
            best = other;
            guess = theirs;
        }
    }
    float sum = 0.0f;
    for (u32 c = lane; c < classes; c += 32) {
        float e = kiln_exp(z[c] - largest);
        z[c] = e;
        sum = sum + e;
    }
    sum = fold(sum);
    for (u32 c = lane; c < classes; c += 32) {
        float p = __fdiv_rn(z[c], sum);
        z[c] = (c == label ? p - 1.0f : p) * scale;
    }
    if (lane == 0) {
        u64 place = (u64)progress->epoch_step * batch + row;
        losses[place] = kiln_log(sum) - (logit - largest);
        hits[place] = guess == label;
    }
}

// One logit a row; label 1 means yes.
extern "C" __global__ void __launch_bounds__(256)
    sigmoid_cross_entropy(float* logits, const u32* labels, float* losses, u32* hits, const Progress* progress, u32 rows, u32 batch,
                          float scale) {
    u32 row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    float z = logits[row], yes = labels[row] == 1 ? 1.0f : 0.0f;
    float above = z <= 0.0f ? 0.0f : z;
    float tail = kiln_log(1.0f + kiln_exp(-kiln_absolute(z)));
    u64 place = (u64)progress->epoch_step * batch + row;
    losses[place] = (above - z * yes) + tail;
    hits[place] = (z > 0.0f) == (labels[row] == 1);
    logits[row] = (kiln_sigmoid(z) - yes) * scale;
}

// Rows of logits become rows of probabilities; one warp a row.
extern "C" __global__ void __launch_bounds__(256) softmax_rows(float* logits, u32 rows, u32 classes) {
    u32 row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    float* z = logits + (u64)row * classes;
    float largest = __uint_as_float(0xff800000u);
    for (u32 c = lane; c < classes; c += 32) largest = kiln_maximum(largest, z[c]);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        largest = kiln_maximum(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
    float sum = 0.0f;
    for (u32 c = lane; c < classes; c += 32) {
        float e = kiln_exp(z[c] - largest);
        z[c] = e;
        sum = sum + e;
    }
    sum = fold(sum);
    for (u32 c = lane; c < classes; c += 32) z[c] = __fdiv_rn(z[c], sum);
}
