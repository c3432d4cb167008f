// The functions of docs/numerics.md, as kernels call them. Compiled with --fmad=false: what is to be fused says so.
#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;

#define KILN_DEVICE __device__ __forceinline__

KILN_DEVICE float kiln_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }

// The larger, +0 above -0, NaN if either is. Associative and commutative.
KILN_DEVICE float kiln_maximum(float a, float b) {
    if (a > b) return a;
    if (b > a) return b;
    if (a == b) return __uint_as_float(__float_as_uint(a) & __float_as_uint(b));
    return __uint_as_float(0x7fc00000u);
}

KILN_DEVICE float kiln_power_of_two(int n) { return __uint_as_float((u32)(n + 127) << 23); }

KILN_DEVICE float kiln_exp(float x) {
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    float shifted = kiln_fma(x, 1.44269504f, 12582912.0f);
    float n = shifted - 12582912.0f;
    int exponent = (int)(__float_as_uint(shifted) - 0x4b400000u);
    float r = kiln_fma(n, -0.693359375f, x);
    r = kiln_fma(n, 2.1219444e-4f, r);
    float p = 1.9875691e-4f;
    p = kiln_fma(p, r, 1.3981999e-3f);
    p = kiln_fma(p, r, 8.333452e-3f);
    p = kiln_fma(p, r, 4.1665796e-2f);
    p = kiln_fma(p, r, 1.6666665e-1f);
    p = kiln_fma(p, r, 0.5f);
    p = kiln_fma(p, r * r, r) + 1.0f;
    // Two factors, since 2^n alone may lie outside the range of normal numbers. NaN came through; its exponent
    // is of no use, but has to be shifted without overflow.
    int half = exponent >> 1;
    return p * kiln_power_of_two(half) * kiln_power_of_two(exponent - half);
}

KILN_DEVICE float kiln_log(float x) {
    bool subnormal = x < 1.17549435e-38f;
    float scaled = subnormal ? x * 8388608.0f : x;
    u32 bits = __float_as_uint(scaled);
    float mantissa = __uint_as_float((bits & 0x007fffffu) | 0x3f000000u);
    int exponent = (int)((bits >> 23) & 0xff) - 126 - (subnormal ? 23 : 0);
    bool low = mantissa < 0.70710678f;
    float m = (low ? mantissa + mantissa : mantissa) - 1.0f;
    float e = (float)(exponent - (low ? 1 : 0));
    float z = m * m;
    float p = 7.0376836e-2f;
    p = kiln_fma(p, m, -1.151461e-1f);
    p = kiln_fma(p, m, 1.1676999e-1f);
    p = kiln_fma(p, m, -1.2420141e-1f);
    p = kiln_fma(p, m, 1.4249323e-1f);
    p = kiln_fma(p, m, -1.6668058e-1f);
    p = kiln_fma(p, m, 2.0000715e-1f);
    p = kiln_fma(p, m, -2.4999994e-1f);
    p = kiln_fma(p, m, 3.333333e-1f);
    float y = (p * m) * z;
    y = kiln_fma(e, -2.1219444e-4f, y);
    y = kiln_fma(-0.5f, z, y);
    float finite = kiln_fma(e, 0.6933594f, m + y);
    float infinity = __uint_as_float(0x7f800000u);
    if (x > 0.0f && x < infinity) return finite;
    if (x == 0.0f) return -infinity;
    if (x == infinity) return x;
    return __uint_as_float(0x7fc00000u);
}

KILN_DEVICE float kiln_absolute(float x) { return __uint_as_float(__float_as_uint(x) & 0x7fffffffu); }

KILN_DEVICE float kiln_tanh(float x) {
    float magnitude = kiln_absolute(x);
    if (magnitude < 0.625f) {
        float z = x * x;
        float p = -5.7049887e-3f;
        p = kiln_fma(p, z, 2.063909e-2f);
        p = kiln_fma(p, z, -5.3739716e-2f);
        p = kiln_fma(p, z, 1.3331442e-1f);
        p = kiln_fma(p, z, -3.333328e-1f);
        return kiln_fma(p * z, x, x);
    }
    float tail = 1.0f - 2.0f / (kiln_exp(magnitude + magnitude) + 1.0f);
    return __uint_as_float((__float_as_uint(tail) & 0x7fffffffu) | (__float_as_uint(x) & 0x80000000u));
}

KILN_DEVICE float kiln_sigmoid(float x) {
    float t = kiln_exp(-kiln_absolute(x));
    return (x < 0.0f ? t : 1.0f) / (1.0f + t);
}

KILN_DEVICE float kiln_clamped(float x) {
    x = x < -16.0f ? -16.0f : x;
    return x > 16.0f ? 16.0f : x;
}

KILN_DEVICE float kiln_gelu(float x) {
    float near = kiln_clamped(x);
    float z = near * near;
    return x * kiln_sigmoid(near * kiln_fma(0.07135482f, z, 1.5957692f));
}

KILN_DEVICE float kiln_gelu_slope(float x) {
    x = kiln_clamped(x);
    float z = x * x;
    float s = kiln_sigmoid(x * kiln_fma(0.07135482f, z, 1.5957692f));
    float inner = kiln_fma(3.0f * 0.07135482f, z, 1.5957692f);
    return kiln_fma((x * s) * (1.0f - s), inner, s);
}

KILN_DEVICE float kiln_relu(float x) { return x <= 0.0f ? 0.0f : x; }

struct Block {
    u32 word[4];
};

// Block `index` of a Philox4x32-10 stream.
KILN_DEVICE Block kiln_philox(u64 index, u64 stream, u64 seed) {
    u32 c0 = (u32)index, c1 = (u32)(index >> 32), c2 = (u32)stream, c3 = (u32)(stream >> 32);
    u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
        u32 n0 = (u32)(p1 >> 32) ^ c1 ^ k0, n2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c1 = (u32)p1;
        c3 = (u32)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    Block block = {{c0, c1, c2, c3}};
    return block;
}

// An order of rows as the host writes it down: 16 keys, bits of the low and the high half, length.
struct Order {
    u32 key[16];
    u32 low_bits, high_bits, len;
};

KILN_DEVICE u32 kiln_mix(u32 key, u32 value) {
    u32 hash = value ^ key;
    hash ^= hash >> 16;
    hash *= 0x85EBCA6Bu;
    hash ^= hash >> 13;
    hash *= 0xC2B2AE35u;
    return hash ^ (hash >> 16);
}

KILN_DEVICE u32 kiln_order_at(const Order* order, u32 place) {
    u32 low_mask = 0xffffffffu >> (32 - order->low_bits), high_mask = 0xffffffffu >> (32 - order->high_bits);
    do {
        u32 low = place & low_mask, high = place >> order->low_bits;
#pragma unroll
        for (int round = 0; round < 16; round += 2) {
            high ^= kiln_mix(order->key[round], low) & high_mask;
            low ^= kiln_mix(order->key[round + 1], high) & low_mask;
        }
        place = (high << order->low_bits) | low;
    } while (place >= order->len);
    return place;
}

// Where a training is: steps in this epoch, steps altogether.
struct Progress {
    u32 epoch_step, step;
};
