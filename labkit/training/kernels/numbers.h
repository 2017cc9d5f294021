// Numbers as the kernels take them: values are float or bfloat16, arithmetic is float32.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

struct bf16 {
    uint16_t bits;
};

inline float up(float value) { return value; }

inline float up(bf16 value) {
    uint32_t bits = uint32_t(value.bits) << 16;
    float found;
    std::memcpy(&found, &bits, 4);
    return found;
}

inline void down(float value, float &to) { to = value; }

inline void down(float value, bf16 &to) {  // to the nearest, to even where two are as near; not a number stays one
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    to.bits = uint16_t((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : rounded);
}

// e^x by a polynomial over [-ln 2 / 2, ln 2 / 2] (coefficients of Moshier's Cephes library), so that loops over it become vectors.
// x is kept within limits from which nothing subnormal comes: processors take a hundred times as long for such a number.
template <int LIMIT = 80>
inline float power(float x) {
    x = x < -LIMIT ? -LIMIT : x;
    x = x > LIMIT ? LIMIT : x;
    float whole = std::floor(x * 1.44269504f + 0.5f);
    float rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * rest + 1.3981999507e-3f;
    y = y * rest + 8.3334519073e-3f;
    y = y * rest + 4.1665795894e-2f;
    y = y * rest + 1.6666665459e-1f;
    y = y * rest + 5.0000001201e-1f;
    y = y * rest * rest + rest + 1.0f;
    int32_t bits = (int32_t(whole) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, 4);
    return y * scale;
}

template <typename T>
inline void load(const T *__restrict from, float *__restrict to, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) to[i] = up(from[i]);
}

template <typename T>
inline void store(const float *__restrict from, T *__restrict to, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) down(from[i], to[i]);
}

// A number from 0 to 2^32 - 1 for each place, as if drawn: an integer hash of 32 bits by two multiplications.
inline uint32_t drawn(uint32_t place, uint32_t seed) {
    uint32_t x = place * 0x9E3779B1u ^ seed;
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}
