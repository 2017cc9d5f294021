// Attention over packed rows, some of which begin with tokens that they share, with rotary positions or without, over what stands before a
// token or over all of its row, with dropout of the weights: from the maps' outputs to the heads' results, and the gradients back (Dao et al. 2022, https://arxiv.org/abs/2205.14135: weights are computed again on the way back). A row's
// queries stand in blocks that fit into a core's cache together with their scores; no padding, and no key that a query does not see.
// Shapes: see packed_attention.py.

#include <algorithm>
#include <vector>

#include "numbers.h"

namespace {

// ---- Products of small matrices of float32 -----------------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int LANES = 16, ACROSS = 4;  // 6 x 4 sums in 32 registers
#elif defined(__AVX__)
constexpr int LANES = 8, ACROSS = 2;
#else
constexpr int LANES = 4, ACROSS = 4;
#endif
constexpr int DOWN = 6;
typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));

inline Vector read(const float *from) {
    Vector found;
    std::memcpy(&found, from, sizeof(found));
    return found;
}

inline int64_t filled(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

// A matrix in memory: the steps from row to row and from column to column, in numbers.
struct Left {
    const float *at;
    int64_t row, column;
};

template <int M, int V>
inline void tile(Left a, const float *b, int64_t b_row, float *c, int64_t c_row, int64_t inner, bool add) {
    Vector sums[M][V];
    for (int i = 0; i < M; i++)
        for (int v = 0; v < V; v++) sums[i][v] = add ? read(c + i * c_row + v * LANES) : Vector{};
    for (int64_t k = 0; k < inner; k++) {
        Vector right[V];
        for (int v = 0; v < V; v++) right[v] = read(b + k * b_row + v * LANES);
        for (int i = 0; i < M; i++) {
            float left = a.at[i * a.row + k * a.column];
            for (int v = 0; v < V; v++) sums[i][v] += left * right[v];
        }
    }
    for (int i = 0; i < M; i++)
        for (int v = 0; v < V; v++) std::memcpy(c + i * c_row + v * LANES, &sums[i][v], sizeof(Vector));
}

template <int M>
inline void strip(Left a, const float *b, int64_t b_row, float *c, int64_t c_row, int64_t columns, int64_t inner, bool add) {
    int64_t at = 0;
    for (; at + ACROSS * LANES <= columns; at += ACROSS * LANES) tile<M, ACROSS>(a, b + at, b_row, c + at, c_row, inner, add);
    for (; at < columns; at += LANES) tile<M, 1>(a, b + at, b_row, c + at, c_row, inner, add);
}

// c (at most DOWN rows, columns) = a b, or + it. Columns are a multiple of LANES.
inline void product(int64_t rows, Left a, const float *b, int64_t b_row, float *c, int64_t c_row, int64_t columns, int64_t inner, bool add) {
    switch (rows) {
        case 1: return strip<1>(a, b, b_row, c, c_row, columns, inner, add);
        case 2: return strip<2>(a, b, b_row, c, c_row, columns, inner, add);
        case 3: return strip<3>(a, b, b_row, c, c_row, columns, inner, add);
        case 4: return strip<4>(a, b, b_row, c, c_row, columns, inner, add);
        case 5: return strip<5>(a, b, b_row, c, c_row, columns, inner, add);
        default: return strip<DOWN>(a, b, b_row, c, c_row, columns, inner, add);
    }
}

// ---- Rows --------------------------------------------------------------------------------------------------------------------------

constexpr int64_t PLACES = 32;  // of a row's queries that stand in one block

struct Row {
    int64_t first, length;
};

// Rows that one thread goes through for one key head. What they share is computed before; its gradients of this chunk stand in
// `gathered` from `to`. `whole`: the row is what others share, and its own keys' gradients go there too.
struct Chunk {
    int64_t begin, end, shared_first, shared, to, whole;
};

struct Sizes {
    int64_t heads, group, size;
    float scale;
    int64_t both_ways;             // whether a query also sees what stands behind it in its row
    uint32_t seed, threshold = 0;  // dropout of the weights, see `drop`
    float raised = 1;
    int64_t wide() const { return heads * (group + 2) * size; }
    int64_t width() const { return heads * group * size; }
    int64_t padded() const { return filled(size); }

    // A block's lines are the places from `begin` on, the group's members of one place under one another. Which token a line asks for:
    int64_t token(const Row &row, int64_t begin, int64_t line) const { return row.first + begin + line / group; }

    // Which of the query heads it is:
    int64_t asking(int64_t head, int64_t line) const { return head * group + line % group; }

    // How many keys its query sees.
    int64_t seen(const Row &row, int64_t begin, int64_t line, int64_t shared) const {
        return shared + (both_ways ? row.length : begin + line / group + 1);
    }
};

// What is left of a query's weights after dropout, the others 0; what is drawn follows from the query, its head and the key's place.
inline void drop(float *weights, int64_t count, uint32_t query, const Sizes &sizes) {
    uint32_t own = drawn(query, sizes.seed);
#pragma omp simd
    for (int64_t j = 0; j < count; j++) weights[j] = drawn((uint32_t)j, own) >= sizes.threshold ? weights[j] * sizes.raised : 0.0f;
}

// One head's vector turned by its token's position: y = x cos + (-x2, x1) sin for the halves x1, x2; `back`: by the transposed matrix.
// Without cos it stays as it is, but for the scale.
template <typename T>
inline void turn(const float *__restrict x, const T *cos, const T *sin, int64_t token, float *__restrict y, int64_t size, float scale,
                 bool back) {
    int64_t half = size / 2;
    if (!cos) {
#pragma omp simd
        for (int64_t i = 0; i < size; i++) y[i] = x[i] * scale;
        return;
    }
    cos += token * size, sin += token * size;
    if (!back) {
#pragma omp simd
        for (int64_t i = 0; i < half; i++) {
            y[i] = (x[i] * up(cos[i]) - x[i + half] * up(sin[i])) * scale;
            y[i + half] = (x[i + half] * up(cos[i + half]) + x[i] * up(sin[i + half])) * scale;
        }
    } else {
#pragma omp simd
        for (int64_t i = 0; i < half; i++) {
            y[i] = (x[i] * up(cos[i]) + x[i + half] * up(sin[i + half])) * scale;
            y[i + half] = (x[i + half] * up(cos[i + half]) - x[i] * up(sin[i])) * scale;
        }
    }
}

// What a thread needs for one key head: keys and values of a row after what it shares, with their transposes, and a block's queries.
template <typename T>
struct Desk {
    const Sizes &sizes;
    const T *qkv, *cos, *sin;
    int64_t head, padded, most;
    std::vector<float> key, value, key_across, value_across, query, scores, room;

    Desk(const Sizes &sizes, const T *qkv, const T *cos, const T *sin, int64_t head, int64_t longest, bool back)
        : sizes(sizes), qkv(qkv), cos(cos), sin(sin), head(head), padded(sizes.padded()), most(filled(longest)), key(most * padded),
          value(most * padded), key_across(most * padded), value_across(back ? most * padded : 0), query(PLACES * sizes.group * padded),
          scores(PLACES * sizes.group * most), room(sizes.size) {}

    void turned(const T *from, int64_t token, float *to, float scale) {
        load(from, room.data(), sizes.size);
        turn(room.data(), cos, sin, token, to, sizes.size, scale, false);
    }

    // Keys and values of `count` tokens from `token`, at `place` among those of the row.
    void fetch(int64_t token, int64_t count, int64_t place) {
        for (int64_t i = 0; i < count; i++) {
            const T *here = qkv + (token + i) * sizes.wide() + (sizes.heads * sizes.group + head) * sizes.size;
            turned(here, token + i, &key[(place + i) * padded], 1.0f);
            load(here + sizes.heads * sizes.size, &value[(place + i) * padded], sizes.size);
        }
        across(key, key_across, place, count);
        if (!value_across.empty()) across(value, value_across, place, count);
    }

    void across(const std::vector<float> &from, std::vector<float> &to, int64_t place, int64_t count) {
        for (int64_t at = 0; at < count; at += LANES) {
            int64_t own = std::min<int64_t>(LANES, count - at);
            for (int64_t i = 0; i < sizes.size; i++)
                for (int64_t j = 0; j < own; j++) to[i * most + place + at + j] = from[(place + at + j) * padded + i];
        }
    }

    // A block's queries, turned.
    void ask(const Row &row, int64_t begin, int64_t end) {
        for (int64_t line = 0; line < (end - begin) * sizes.group; line++) {
            int64_t token = sizes.token(row, begin, line);
            turned(qkv + token * sizes.wide() + sizes.asking(head, line) * sizes.size, token, &query[line * padded], sizes.scale);
        }
    }
};

template <typename T>
void attend_forward(const T *qkv, const T *cos, const T *sin, const Row *rows, const Chunk *chunks, int64_t count, int64_t longest, T *out,
                    float *logs, const Sizes &sizes) {
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int64_t number = 0; number < count; number++)
        for (int64_t head = 0; head < sizes.heads; head++) {
            const Chunk &chunk = chunks[number];
            Desk<T> desk(sizes, qkv, cos, sin, head, longest, false);
            std::vector<float> found(DOWN * desk.padded);
            desk.fetch(chunk.shared_first, chunk.shared, 0);
            for (int64_t which = chunk.begin; which < chunk.end; which++) {
                const Row &row = rows[which];
                desk.fetch(row.first, row.length, chunk.shared);
                for (int64_t begin = 0; begin < row.length; begin += PLACES) {
                    int64_t end = std::min(begin + PLACES, row.length), lines = (end - begin) * sizes.group;
                    desk.ask(row, begin, end);
                    for (int64_t line = 0; line < lines; line += DOWN) {
                        int64_t own = std::min<int64_t>(DOWN, lines - line), all = sizes.seen(row, begin, line + own - 1, chunk.shared);
                        float *scores = &desk.scores[line * desk.most];
                        product(own, {&desk.query[line * desk.padded], desk.padded, 1}, desk.key_across.data(), desk.most, scores, desk.most,
                                filled(all), sizes.size, false);
                        float scale[DOWN];
                        for (int64_t i = 0; i < own; i++) {
                            float *__restrict mine = scores + i * desk.most, most = -INFINITY, sum = 0;
                            int64_t seen = sizes.seen(row, begin, line + i, chunk.shared);
#pragma omp simd reduction(max : most)
                            for (int64_t j = 0; j < seen; j++) most = mine[j] > most ? mine[j] : most;
#pragma omp simd reduction(+ : sum)
                            for (int64_t j = 0; j < seen; j++) {
                                mine[j] = power(mine[j] - most);
                                sum += mine[j];
                            }
                            std::fill(mine + seen, mine + all, 0.0f);
                            scale[i] = 1.0f / sum;
                            int64_t query = sizes.token(row, begin, line + i) * sizes.heads * sizes.group + sizes.asking(head, line + i);
                            logs[query] = most + std::log(sum);
                            if (sizes.threshold) drop(mine, seen, query, sizes);
                        }
                        product(own, {scores, desk.most, 1}, desk.value.data(), desk.padded, found.data(), desk.padded, desk.padded, all,
                                false);
                        for (int64_t i = 0; i < own; i++) {
                            int64_t token = sizes.token(row, begin, line + i);
                            float *mine = &found[i * desk.padded];
                            for (int64_t j = 0; j < sizes.size; j++) mine[j] *= scale[i];
                            store(mine, out + token * sizes.width() + sizes.asking(head, line + i) * sizes.size,
                                  sizes.size);
                        }
                    }
                }
            }
        }
}

template <typename T>
void attend_backward(const T *gradient, const T *qkv, const T *cos, const T *sin, const float *logs, const Row *rows, const Chunk *chunks,
                     int64_t count, int64_t longest, float *gathered, T *of_all, const Sizes &sizes) {
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int64_t number = 0; number < count; number++)
        for (int64_t head = 0; head < sizes.heads; head++) {
            const Chunk &chunk = chunks[number];
            Desk<T> desk(sizes, qkv, cos, sin, head, longest, true);
            int64_t padded = desk.padded, most = desk.most;
            std::vector<float> of_key(most * padded), of_value(most * padded), of_out(PLACES * sizes.group * padded),
                of_scores(PLACES * sizes.group * most), of_query(DOWN * padded), turned(sizes.size);
            desk.fetch(chunk.shared_first, chunk.shared, 0);
            for (int64_t which = chunk.begin; which < chunk.end; which++) {
                const Row &row = rows[which];
                desk.fetch(row.first, row.length, chunk.shared);
                std::fill(of_key.begin() + chunk.shared * padded, of_key.end(), 0.0f);
                std::fill(of_value.begin() + chunk.shared * padded, of_value.end(), 0.0f);
                for (int64_t begin = 0; begin < row.length; begin += PLACES) {
                    int64_t end = std::min(begin + PLACES, row.length), lines = (end - begin) * sizes.group;
                    int64_t widest = chunk.shared + (sizes.both_ways ? row.length : end);
                    desk.ask(row, begin, end);
                    for (int64_t line = 0; line < lines; line += DOWN) {
                        int64_t own = std::min<int64_t>(DOWN, lines - line), all = sizes.seen(row, begin, line + own - 1, chunk.shared);
                        float *scores = &desk.scores[line * most], *of = &of_scores[line * most], *asked = &desk.query[line * padded];
                        for (int64_t i = 0; i < own; i++) {
                            int64_t token = sizes.token(row, begin, line + i);
                            load(gradient + token * sizes.width() + sizes.asking(head, line + i) * sizes.size,
                                 &of_out[(line + i) * padded], sizes.size);
                        }
                        product(own, {asked, padded, 1}, desk.key_across.data(), most, scores, most, filled(all), sizes.size, false);
                        product(own, {&of_out[line * padded], padded, 1}, desk.value_across.data(), most, of, most, filled(all), sizes.size,
                                false);
                        for (int64_t i = 0; i < own; i++) {
                            float *__restrict weights = scores + i * most, *__restrict mine = of + i * most, sum = 0;
                            int64_t seen = sizes.seen(row, begin, line + i, chunk.shared), token = sizes.token(row, begin, line + i);
                            int64_t query = token * sizes.heads * sizes.group + sizes.asking(head, line + i);
                            float log = logs[query];
                            if (sizes.threshold) drop(mine, seen, query, sizes);
#pragma omp simd reduction(+ : sum)
                            for (int64_t j = 0; j < seen; j++) {
                                weights[j] = power(weights[j] - log);
                                sum += weights[j] * mine[j];
                            }
#pragma omp simd
                            for (int64_t j = 0; j < seen; j++) mine[j] = weights[j] * (mine[j] - sum);
                            if (sizes.threshold) drop(weights, seen, query, sizes);
                            std::fill(weights + seen, weights + widest, 0.0f);
                            std::fill(mine + seen, mine + widest, 0.0f);
                        }
                        product(own, {of, most, 1}, desk.key.data(), padded, of_query.data(), padded, padded, all, false);
                        for (int64_t i = 0; i < own; i++) {
                            int64_t token = sizes.token(row, begin, line + i);
                            turn(&of_query[i * padded], cos, sin, token, turned.data(), sizes.size, sizes.scale, true);
                            store(turned.data(),
                                  of_all + token * sizes.wide() + sizes.asking(head, line + i) * sizes.size, sizes.size);
                        }
                    }
                    for (int64_t key = 0; key < widest; key += DOWN) {  // keys of the block itself may be seen from their own place on alone
                        int64_t own = std::min<int64_t>(DOWN, widest - key);
                        int64_t from = sizes.both_ways ? 0 : std::max<int64_t>(0, key - chunk.shared - begin) * sizes.group;
                        product(own, {&desk.scores[from * most + key], 1, most}, &of_out[from * padded], padded, &of_value[key * padded],
                                padded, padded, lines - from, true);
                        product(own, {&of_scores[from * most + key], 1, most}, &desk.query[from * padded], padded, &of_key[key * padded],
                                padded, padded, lines - from, true);
                    }
                }
                for (int64_t place = 0; place < row.length && !chunk.whole; place++) {
                    int64_t token = row.first + place, at = (chunk.shared + place) * padded;
                    T *here = of_all + token * sizes.wide() + (sizes.heads * sizes.group + head) * sizes.size;
                    turn(&of_key[at], cos, sin, token, turned.data(), sizes.size, 1.0f, true);
                    store(turned.data(), here, sizes.size);
                    store(&of_value[at], here + sizes.heads * sizes.size, sizes.size);
                }
            }
            int64_t kept = chunk.whole ? rows[chunk.begin].length : chunk.shared;
            for (int64_t place = 0; place < kept; place++) {
                float *to = gathered + (((chunk.to + place) * sizes.heads + head) * 2) * sizes.size;
                std::copy_n(&of_key[place * padded], sizes.size, to);
                std::copy_n(&of_value[place * padded], sizes.size, to + sizes.size);
            }
        }
}

// The gradients of shared keys and values: those of all chunks, added up in their order. Shares: (first token, tokens, place of the first
// chunk's in `gathered`, chunks).
template <typename T>
void attend_shared(const T *cos, const T *sin, const int64_t *shares, int64_t count, const float *gathered, T *of_all, const Sizes &sizes) {
    for (int64_t number = 0; number < count; number++) {
        const int64_t *share = shares + 4 * number;
        int64_t length = share[1];
#pragma omp parallel for schedule(static)
        for (int64_t place = 0; place < length; place++) {
            std::vector<float> sum(2 * sizes.size), turned(sizes.size);
            int64_t token = share[0] + place;
            for (int64_t head = 0; head < sizes.heads; head++) {
                std::fill(sum.begin(), sum.end(), 0.0f);
                for (int64_t chunk = 0; chunk < share[3]; chunk++) {
                    const float *own = gathered + (((share[2] + chunk * length + place) * sizes.heads + head) * 2) * sizes.size;
                    for (int64_t i = 0; i < 2 * sizes.size; i++) sum[i] += own[i];
                }
                T *here = of_all + token * sizes.wide() + (sizes.heads * sizes.group + head) * sizes.size;
                turn(sum.data(), cos, sin, token, turned.data(), sizes.size, 1.0f, true);
                store(turned.data(), here, sizes.size);
                store(sum.data() + sizes.size, here + sizes.heads * sizes.size, sizes.size);
            }
        }
    }
}

// heads, group, size, both_ways, seed, threshold
Sizes of(const int64_t *sizes, float scale, float raised) {
    return {sizes[0], sizes[1], sizes[2], scale, sizes[3], (uint32_t)sizes[4], (uint32_t)sizes[5], raised};
}

}  // namespace

#define FOR_TYPE(T, NAME)                                                                                                             \
    void attend_forward_##NAME(const T *qkv, const T *cos, const T *sin, const Row *rows, const Chunk *chunks, int64_t count,         \
                               int64_t longest, T *out, float *logs, const int64_t *sizes, float scale, float raised) {               \
        attend_forward(qkv, cos, sin, rows, chunks, count, longest, out, logs, of(sizes, scale, raised));                             \
    }                                                                                                                                 \
    void attend_backward_##NAME(const T *gradient, const T *qkv, const T *cos, const T *sin, const float *logs, const Row *rows,      \
                                const Chunk *chunks, int64_t count, int64_t longest, const int64_t *shares, int64_t shared,           \
                                float *gathered, T *of_all, const int64_t *sizes, float scale, float raised) {                        \
        Sizes known = of(sizes, scale, raised);                                                                                       \
        attend_backward(gradient, qkv, cos, sin, logs, rows, chunks, count, longest, gathered, of_all, known);                        \
        attend_shared(cos, sin, shares, shared, gathered, of_all, known);                                                             \
    }

extern "C" {
FOR_TYPE(float, float32)
FOR_TYPE(bf16, bfloat16)
}
