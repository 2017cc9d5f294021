// What stands between the matrix products of a decoder layer, each in one pass over memory: norm, activations, dropout; and products
// divided among threads. Shapes and formulas: see __init__.py.

#include "numbers.h"

namespace {

inline float sigmoid(float x) { return 1.0f / (1.0f + power<40>(-x)); }

// Numbers are brought to float32 and back in short pieces: loops over one type become vectors.
constexpr int64_t PIECE = 256;

template <typename T>
void norm_forward(const T *x, const T *weight, float eps, T *out, float *rate, int64_t rows, int64_t size, int64_t stride) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const T *in = x + row * size;
        T *to = out + row * stride;
        float sum = 0;
        for (int64_t i = 0; i < size; i++) sum += up(in[i]) * up(in[i]);
        float scale = 1.0f / std::sqrt(sum / size + eps);
        rate[row] = scale;
        for (int64_t i = 0; i < size; i++) down(up(in[i]) * scale * up(weight[i]), to[i]);
    }
}

template <typename T>
void norm_backward(const T *gradient, const T *x, const T *weight, const float *rate, T *out, int64_t rows, int64_t size) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const T *g = gradient + row * size, *in = x + row * size;
        T *to = out + row * size;
        float along = 0, scale = rate[row];
        for (int64_t i = 0; i < size; i++) along += up(g[i]) * up(weight[i]) * up(in[i]);
        along *= scale * scale * scale / size;
        for (int64_t i = 0; i < size; i++) down(up(g[i]) * up(weight[i]) * scale - up(in[i]) * along, to[i]);
    }
}

template <typename T>
void gated_forward(const T *both, T *out, int64_t rows, int64_t size, int64_t stride) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const T *in = both + row * 2 * size;
        for (int64_t at = 0; at < size; at += PIECE) {
            int64_t count = size - at < PIECE ? size - at : PIECE;
            float gate[PIECE], value[PIECE], found[PIECE];
            load(in + at, gate, count);
            load(in + size + at, value, count);
#pragma omp simd
            for (int64_t i = 0; i < count; i++) found[i] = gate[i] * sigmoid(gate[i]) * value[i];
            store(found, out + row * stride + at, count);
        }
    }
}

template <typename T>
void gated_backward(const T *gradient, const T *both, T *out, int64_t rows, int64_t size) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const T *in = both + row * 2 * size;
        for (int64_t at = 0; at < size; at += PIECE) {
            int64_t count = size - at < PIECE ? size - at : PIECE;
            float own[PIECE], gate[PIECE], value[PIECE];
            load(gradient + row * size + at, own, count);
            load(in + at, gate, count);
            load(in + size + at, value, count);
#pragma omp simd
            for (int64_t i = 0; i < count; i++) {
                float open = sigmoid(gate[i]), silu = gate[i] * open, of = own[i];
                gate[i] = of * value[i] * (open + silu * (1.0f - open));
                value[i] = of * silu;
            }
            store(gate, out + row * 2 * size + at, count);
            store(value, out + row * 2 * size + size + at, count);
        }
    }
}

// The normal distribution at x: how much of it lies below, and its density. The error function by formula 7.1.26 of Abramowitz and Stegun
// (Handbook of Mathematical Functions, 1964), off by at most 1.5e-7.
struct Normal {
    float below, density;
    inline explicit Normal(float x) {
        float size = std::fabs(x) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * size), bell = power(-size * size);
        float above = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t * bell * 0.5f;
        below = x < 0 ? above : 1.0f - above;
        density = bell * 0.39894228f;
    }
};

template <typename T>
void gelu_forward(const T *x, T *out, int64_t count) {
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < count; at += PIECE) {
        int64_t own = count - at < PIECE ? count - at : PIECE;
        float found[PIECE];
        load(x + at, found, own);
#pragma omp simd
        for (int64_t i = 0; i < own; i++) found[i] *= Normal(found[i]).below;
        store(found, out + at, own);
    }
}

template <typename T>
void gelu_backward(const T *gradient, const T *x, T *out, int64_t count) {
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < count; at += PIECE) {
        int64_t own = count - at < PIECE ? count - at : PIECE;
        float found[PIECE], of[PIECE];
        load(x + at, found, own);
        load(gradient + at, of, own);
#pragma omp simd
        for (int64_t i = 0; i < own; i++) {
            Normal normal(found[i]);
            found[i] = of[i] * (normal.below + found[i] * normal.density);
        }
        store(found, out + at, own);
    }
}

// PyTorch's own functions over raw memory (its C interface for compiled models), handed over by `connect`.
struct {
    int32_t (*create)(void *, int64_t, const int64_t *, const int64_t *, int64_t, int32_t, int32_t, int32_t, void **);
    int32_t (*destroy)(void *);
    int32_t (*product)(void *, void *, void *);
    int32_t (*added)(void *, void *, void *, void *, double, double);
} torch;

constexpr int32_t BFLOAT16 = 15, CPU = 0;

struct Matrix {
    void *handle = nullptr;
    Matrix(void *data, int64_t rows, int64_t columns, int64_t row_step, int64_t column_step) {
        int64_t sizes[2] = {rows, columns}, steps[2] = {row_step, column_step};
        torch.create(data, 2, sizes, steps, 0, BFLOAT16, CPU, 0, &handle);
    }
    ~Matrix() { torch.destroy(handle); }
};

template <typename T>
void dropout(const T *x, T *out, int64_t count, uint32_t seed, uint32_t threshold, float scale) {
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < count; at += PIECE) {
        int64_t own = count - at < PIECE ? count - at : PIECE;
        float found[PIECE];
        load(x + at, found, own);
#pragma omp simd
        for (int64_t i = 0; i < own; i++) found[i] = drawn((uint32_t)(at + i), seed) >= threshold ? found[i] * scale : 0.0f;
        store(found, out + at, own);
    }
}

}  // namespace

#define FOR_TYPE(T, NAME)                                                                                                             \
    void norm_forward_##NAME(const T *x, const T *w, float eps, T *out, float *rate, int64_t rows, int64_t size, int64_t stride) {    \
        norm_forward(x, w, eps, out, rate, rows, size, stride);                                                                       \
    }                                                                                                                                 \
    void norm_backward_##NAME(const T *g, const T *x, const T *w, const float *rate, T *out, int64_t rows, int64_t size) {          \
        norm_backward(g, x, w, rate, out, rows, size);                                                                              \
    }                                                                                                                               \
    void gated_forward_##NAME(const T *both, T *out, int64_t rows, int64_t size, int64_t stride) {                                    \
        gated_forward(both, out, rows, size, stride);                                                                                 \
    }                                                                                                                                 \
    void gated_backward_##NAME(const T *g, const T *both, T *out, int64_t rows, int64_t size) {                                     \
        gated_backward(g, both, out, rows, size);                                                                                   \
    }                                                                                                                               \
    void gelu_forward_##NAME(const T *x, T *out, int64_t count) { gelu_forward(x, out, count); }                                      \
    void gelu_backward_##NAME(const T *g, const T *x, T *out, int64_t count) { gelu_backward(g, x, out, count); }                     \
    void dropout_##NAME(const T *x, T *out, int64_t count, int64_t seed, int64_t threshold, float scale) {                            \
        dropout(x, out, count, (uint32_t)seed, (uint32_t)threshold, scale);                                                           \
    }

extern "C" {

void connect(void *create, void *destroy, void *product, void *added) {
    torch.create = (decltype(torch.create))create;
    torch.destroy = (decltype(torch.destroy))destroy;
    torch.product = (decltype(torch.product))product;
    torch.added = (decltype(torch.added))added;
}

// out (m, n) = a (m, k) b (k, n), or `first` (m, n) + that; rows of a, in as many parts as there are threads, each by a thread of its own.
// Steps are in elements, from row to row and from column to column. Gives 0 where all went well.
int32_t product(bf16 *a, bf16 *b, bf16 *first, bf16 *out, int64_t m, int64_t k, int64_t n, int64_t a_row, int64_t a_column, int64_t b_row,
                int64_t b_column, int64_t first_row, int64_t out_row, int64_t parts) {
    int64_t each = ((m + parts - 1) / parts + 31) / 32 * 32;
    int32_t failed = 0;
#pragma omp parallel for schedule(static) num_threads(parts) reduction(| : failed)
    for (int64_t part = 0; part < parts; part++) {
        int64_t start = part * each, rows = m - start < each ? m - start : each;
        if (rows <= 0) continue;
        Matrix left(a + start * a_row, rows, k, a_row, a_column), right(b, k, n, b_row, b_column),
            to(out + start * out_row, rows, n, out_row, 1);
        if (first == nullptr) {
            failed |= torch.product(to.handle, left.handle, right.handle);
        } else {
            Matrix before(first + start * first_row, rows, n, first_row, 1);
            failed |= torch.added(to.handle, before.handle, left.handle, right.handle, 1.0, 1.0);
        }
    }
    return failed;
}

FOR_TYPE(float, float32)
FOR_TYPE(bf16, bfloat16)
}
