// What stands between the matrix products of a decoder layer, each in one pass over memory: norm, gated activation, rotary position
// embedding with attention's layout, softmax. Values are float or bfloat16, arithmetic is float32. Shapes and formulas: see __init__.py.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

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

inline float sigmoid(float x) { return 1.0f / (1.0f + power<40>(-x)); }

// Numbers are brought to float32 and back in short pieces: loops over one type become vectors.
constexpr int64_t PIECE = 256;

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

// One head's vector, turned by its position: y = x cos + (-x2, x1) sin for the halves x1, x2. `room` holds 2 x size numbers.
template <typename T>
inline void turn(const T *x, const float *__restrict cos, const float *__restrict sin, T *y, int64_t size, float scale, float *room) {
    int64_t half = size / 2;
    float *__restrict in = room, *__restrict out = room + size;
    load(x, in, size);
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        out[i] = (in[i] * cos[i] - in[i + half] * sin[i]) * scale;
        out[i + half] = (in[i + half] * cos[i + half] + in[i] * sin[i + half]) * scale;
    }
    store(out, y, size);
}

// Tokens' queries, keys and values to the heads' layout, turned; or back (`BACK`), the gradients turned the other way round: that is a turn
// too, with the halves of the sines exchanged and negative.
template <bool BACK, typename T>
void spread(T *qkv, const T *cos, const T *sin, const int64_t *token, T *q, T *k, T *v, int64_t rows, int64_t widest, int64_t heads,
            int64_t group, int64_t size, float scale) {
    int64_t width = heads * (group + 2) * size, half = size / 2;
#pragma omp parallel
    {
        std::vector<float> space(4 * size);
        float *room = space.data(), *turns = room + 2 * size;
        auto turned = [&](T *of_head, T *of_token, float by) {
            if (BACK) turn(of_head, turns, turns + size, of_token, size, by, room);
            else turn(of_token, turns, turns + size, of_head, size, by, room);
        };
#pragma omp for schedule(static)
        for (int64_t slot = 0; slot < rows * widest; slot++) {
            int64_t row = slot / widest, place = slot % widest, at = token[slot];
            if (at < 0 && BACK) continue;
            T *here = qkv + at * width;
            if (at >= 0) {
                load(cos + at * size, turns, size);
                load(sin + at * size, turns + size, size);
                for (int64_t i = 0; BACK && i < half; i++) {
                    float one = turns[size + i];
                    turns[size + i] = -turns[size + half + i];
                    turns[size + half + i] = -one;
                }
            }
            for (int64_t head = 0; head < heads; head++) {
                int64_t own = ((head * rows + row) * widest + place) * size;
                T *own_v = v + own, *here_v = here + (heads * (group + 1) + head) * size;
                if (at < 0) {
                    std::memset((void *)(k + own), 0, size * sizeof(T));
                    std::memset((void *)own_v, 0, size * sizeof(T));
                } else {
                    turned(k + own, here + (heads * group + head) * size, 1.0f);
                    std::memcpy((void *)(BACK ? here_v : own_v), BACK ? own_v : here_v, size * sizeof(T));
                }
                for (int64_t member = 0; member < group; member++) {
                    T *own_q = q + (((head * rows + row) * group + member) * widest + place) * size;
                    if (at < 0) std::memset((void *)own_q, 0, size * sizeof(T));
                    else turned(own_q, here + (head * group + member) * size, scale);
                }
            }
        }
    }
}

// Outputs of all heads to their tokens (`there`), or the gradients of tokens to the heads' layout.
template <typename T>
void carry(T *heads_side, T *tokens_side, const int64_t *token, int64_t rows, int64_t widest, int64_t heads, int64_t group, int64_t size,
           bool there) {
#pragma omp parallel for schedule(static)
    for (int64_t slot = 0; slot < rows * widest; slot++) {
        int64_t row = slot / widest, place = slot % widest, at = token[slot];
        for (int64_t head = 0; head < heads; head++)
            for (int64_t member = 0; member < group; member++) {
                T *here = heads_side + (((head * rows + row) * group + member) * widest + place) * size;
                T *other = tokens_side + (at * heads * group + head * group + member) * size;
                if (there && at >= 0) std::memcpy((void *)other, here, size * sizeof(T));
                else if (!there && at >= 0) std::memcpy((void *)here, other, size * sizeof(T));
                else if (!there) std::memset((void *)here, 0, size * sizeof(T));
            }
    }
}

// A query sees all of the shared keys, and of its own row's those up to its own place.
template <typename T>
void softmax_forward(T *own, T *shared, int64_t blocks, int64_t widest, int64_t start) {
#pragma omp parallel
    {
        std::vector<float> space(widest + start);
        float *__restrict kept = space.data();
#pragma omp for schedule(static)
        for (int64_t line = 0; line < blocks * widest; line++) {
            int64_t seen = line % widest + 1, all = start + seen;
            T *mine = own + line * widest, *others = shared + line * start;
            load(others, kept, start);
            load(mine, kept + start, seen);
            float most = -INFINITY, sum = 0;
#pragma omp simd reduction(max : most)
            for (int64_t i = 0; i < all; i++) most = kept[i] > most ? kept[i] : most;
#pragma omp simd
            for (int64_t i = 0; i < all; i++) kept[i] = power(kept[i] - most);
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < all; i++) sum += kept[i];
            float scale = 1.0f / sum;
#pragma omp simd
            for (int64_t i = 0; i < all; i++) kept[i] *= scale;
            store(kept, others, start);
            store(kept + start, mine, seen);
            std::memset((void *)(mine + seen), 0, (widest - seen) * sizeof(T));
        }
    }
}

template <typename T>
void softmax_backward(const T *own, const T *shared, T *of_own, T *of_shared, int64_t blocks, int64_t widest, int64_t start) {
#pragma omp parallel
    {
        std::vector<float> space(2 * (widest + start));
        float *__restrict kept = space.data(), *__restrict of = kept + widest + start;
#pragma omp for schedule(static)
        for (int64_t line = 0; line < blocks * widest; line++) {
            int64_t seen = line % widest + 1, all = start + seen;
            T *of_mine = of_own + line * widest, *of_others = of_shared + line * start;
            load(shared + line * start, kept, start);
            load(own + line * widest, kept + start, seen);
            load(of_others, of, start);
            load(of_mine, of + start, seen);
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < all; i++) sum += kept[i] * of[i];
#pragma omp simd
            for (int64_t i = 0; i < all; i++) of[i] = kept[i] * (of[i] - sum);
            store(of, of_others, start);
            store(of + start, of_mine, seen);
            std::memset((void *)(of_mine + seen), 0, (widest - seen) * sizeof(T));
        }
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

// A number from 0 to 2^32 - 1 for each place, as if drawn: an integer hash of 32 bits by two multiplications.
inline uint32_t drawn(uint32_t place, uint32_t seed) {
    uint32_t x = place * 0x9E3779B1u ^ seed;
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}

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
    void dropout_##NAME(const T *x, T *out, int64_t count, int64_t seed, int64_t threshold, float scale) {                            \
        dropout(x, out, count, (uint32_t)seed, (uint32_t)threshold, scale);                                                           \
    }                                                                                                                                 \
    void spread_##NAME(T *qkv, const T *cos, const T *sin, const int64_t *token, T *q, T *k, T *v, int64_t rows, int64_t widest,    \
                       int64_t heads, int64_t group, int64_t size, float scale) {                                                   \
        spread<false>(qkv, cos, sin, token, q, k, v, rows, widest, heads, group, size, scale);                                      \
    }                                                                                                                               \
    void spread_backward_##NAME(T *qkv, const T *cos, const T *sin, const int64_t *token, T *q, T *k, T *v, int64_t rows,           \
                                int64_t widest, int64_t heads, int64_t group, int64_t size, float scale) {                          \
        spread<true>(qkv, cos, sin, token, q, k, v, rows, widest, heads, group, size, scale);                                       \
    }                                                                                                                               \
    void carry_##NAME(T *heads_side, T *tokens_side, const int64_t *token, int64_t rows, int64_t widest, int64_t heads,             \
                      int64_t group, int64_t size, int64_t there) {                                                                 \
        carry(heads_side, tokens_side, token, rows, widest, heads, group, size, there != 0);                                        \
    }                                                                                                                               \
    void softmax_forward_##NAME(T *own, T *shared, int64_t blocks, int64_t widest, int64_t start) {                                 \
        softmax_forward(own, shared, blocks, widest, start);                                                                        \
    }                                                                                                                               \
    void softmax_backward_##NAME(const T *own, const T *shared, T *of_own, T *of_shared, int64_t blocks, int64_t widest,            \
                                 int64_t start) {                                                                                   \
        softmax_backward(own, shared, of_own, of_shared, blocks, widest, start);                                                    \
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
