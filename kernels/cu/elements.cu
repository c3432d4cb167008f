// What is done to each element alone: activations, dropout, optimisers, and rows gathered in an epoch's order.
//
// What changes from step to step (rate, rows, random numbers) is read from memory by way of a step counter, so that a graph of
// many steps can be replayed.
#include "functions.cuh"

#define EACH(i, count) for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < count; i += (u64)gridDim.x * blockDim.x)

extern "C" __global__ void __launch_bounds__(32) advance(Progress* progress) {
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        progress->epoch_step += 1;
        progress->step += 1;
    }
}

extern "C" __global__ void __launch_bounds__(256) relu(float* values, u64 count) {
    EACH(i, count) values[i] = kiln_relu(values[i]);
}

extern "C" __global__ void __launch_bounds__(256) relu_backward(const float* activation, float* gradient, u64 count) {
    EACH(i, count) gradient[i] = activation[i] <= 0.0f ? 0.0f : gradient[i];
}

// Row i of `values` times weight i.
extern "C" __global__ void __launch_bounds__(256) weigh(float* values, const float* weights, u64 count, u32 width) {
    EACH(i, count) values[i] = values[i] * weights[i / width];
}

extern "C" __global__ void __launch_bounds__(256) gelu(const float* input, float* output, u64 count) {
    EACH(i, count) output[i] = kiln_gelu(input[i]);
}

extern "C" __global__ void __launch_bounds__(256) gelu_backward(const float* input, float* gradient, u64 count) {
    EACH(i, count) gradient[i] = gradient[i] * kiln_gelu_slope(input[i]);
}

// Mask number `stream + step · streams` of `seed`. One thread has the four elements of one Philox block.
extern "C" __global__ void __launch_bounds__(256)
    dropout(float* values, u64 count, u64 seed, u64 stream, u64 streams, const Progress* progress, u32 threshold, float scale) {
    u64 mask = stream + progress->step * streams;
    EACH(quad, (count + 3) / 4) {
        Block block = kiln_philox(quad, mask, seed);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            u64 i = quad * 4 + e;
            if (i < count) values[i] = (block.word[e] >> 8) < threshold ? 0.0f : values[i] * scale;
        }
    }
}

// `rates` holds the step size of each step.
extern "C" __global__ void __launch_bounds__(256)
    adam(float* w, const float* gradient, float* m, float* v, u64 count, const float* rates, const Progress* progress, float beta1,
         float beta2, float epsilon, float decay) {
    float step = rates[progress->step];
    EACH(i, count) {
        float weight = w[i];
        float g = kiln_fma(decay, weight, gradient[i]);
        float first = kiln_fma(beta1, m[i], (1.0f - beta1) * g);
        float second = kiln_fma(beta2, v[i], (1.0f - beta2) * (g * g));
        m[i] = first;
        v[i] = second;
        w[i] = kiln_fma(-step, __fdiv_rn(first, __fsqrt_rn(second) + epsilon), weight);
    }
}

extern "C" __global__ void __launch_bounds__(256)
    sgd(float* w, const float* gradient, float* velocity, u64 count, const float* rates, const Progress* progress, float momentum,
        float decay) {
    float rate = rates[progress->step];
    EACH(i, count) {
        float weight = w[i];
        float g = kiln_fma(decay, weight, gradient[i]);
        float v = kiln_fma(momentum, velocity[i], g);
        velocity[i] = v;
        w[i] = kiln_fma(-rate, v, weight);
    }
}

// Row i of `out` is the row of `x` at place `epoch_step · batch + i` of the order; one warp brings one row, and its label.
extern "C" __global__ void __launch_bounds__(256) gather(const float* x, const u32* labels, const Order* order, const Progress* progress,
                                                         float* out, u32* out_labels, u32 rows, u32 width, u32 batch) {
    u32 lane = threadIdx.x % 32, warps = gridDim.x * (blockDim.x / 32);
    for (u32 i = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; i < rows; i += warps) {
        u32 row = kiln_order_at(order, progress->epoch_step * batch + i);
        const float* source = x + (u64)row * width;
        float* target = out + (u64)i * width;
        if (lane == 0) out_labels[i] = labels[row];
        if (width % 4 == 0) {
            for (u32 c = lane; c < width / 4; c += 32) ((float4*)target)[c] = ((const float4*)source)[c];
        } else {
            for (u32 c = lane; c < width; c += 32) target[c] = source[c];
        }
    }
}

// Uniform numbers in [low, high): four to a thread.
extern "C" __global__ void __launch_bounds__(256) uniform(float* out, u64 count, u64 seed, u64 stream, float low, float high) {
    EACH(quad, (count + 3) / 4) {
        Block block = kiln_philox(quad, stream, seed);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            u64 i = quad * 4 + e;
            if (i < count) out[i] = kiln_fma((float)(block.word[e] >> 8) * 5.9604644775390625e-8f, high - low, low);
        }
    }
}
