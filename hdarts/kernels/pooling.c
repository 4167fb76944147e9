/* Pooling and identity of the sources of a wave, mixed for each target node.

     nodes[m] += sum over sources s of  mixing[m, 0, s] BN(max pool(x_s)) + mixing[m, 1, s] BN(average pool(x_s))
                                      + mixing[m, 2, s] x_s                     (the last at stride 1 alone)

   Called by pooling.py. Pools are recomputed where they are needed, which is cheaper than storing them. Each source,
   node and gradient is (image, row, column, channel), channels-last; mixing (node, operation, source), statistics
   (pool, source, chunk, lane). `sparse`: what has weight 0 is left out, and the gradient in its weight is 0. Every
   function returns 0, or 1 if it is out of memory. */

#include "moments.h"

typedef struct { const Shape *s; int64_t operations, sparse; const REAL *weights; } Mixing;

static REAL weight_of(const Mixing *m, int64_t node, int64_t o, int64_t source) {
    return m->weights[(node * m->operations + o) * m->s->sources + source];
}

/* Whether an edge has one of the operations [from, to). */
static int has(const Mixing *m, int64_t node, int64_t source, int64_t from, int64_t to) {
    for (int64_t o = from; o < to; o++)
        if (!m->sparse || weight_of(m, node, o, source) != 0) return 1;
    return 0;
}

/* Write the nodes whose edges from a source have one of the first operations; return how many they are. */
static int64_t nodes_of(const Mixing *m, int64_t source, int64_t operations, int64_t *nodes) {
    int64_t count = 0;
    for (int64_t node = 0; node < m->s->nodes; node++)
        if (has(m, node, source, 0, operations)) nodes[count++] = node;
    return count;
}

static int pooled(const Mixing *m, int64_t source) {
    int64_t nodes[m->s->nodes];
    return nodes_of(m, source, 2, nodes) > 0;
}

/* Window of output (r, c): rows [top, bottom), columns [left, right). */
typedef struct { int64_t top, bottom, left, right; } Window;

static Window window(const Shape *s, int64_t r, int64_t c) {
    int64_t top = r * s->stride - 1, left = c * s->stride - 1;
    return (Window){top < 0 ? 0 : top, top + 3 < s->height ? top + 3 : s->height,
                    left < 0 ? 0 : left, left + 3 < s->width ? left + 3 : s->width};
}

static int whole(Window w) { return w.bottom - w.top == 3 && w.right - w.left == 3; }
static REAL share(Window w) { return (REAL)1 / ((w.bottom - w.top) * (w.right - w.left)); }

/* Maximum (nan counts as the largest) and sum of the window that starts at `corner`. */
INLINE void pool_of(const vec *corner, int64_t wide, const int rows, const int columns, vec *largest, vec *sum) {
    vec most = corner[0], all = {0};
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            vec one = corner[i * wide + j];
            mask larger = (one > most) | (one != one);
            most = (vec)((larger & (mask)one) | (~larger & (mask)most));
            all += one;
        }
    *largest = most, *sum = all;
}

/* Backward: add the gradient of the maximum to the first pixel equal to it, that of the average to all pixels. */
INLINE void spread_of(const vec *corner, int64_t wide, const int rows, const int columns, vec most, vec of_most,
                      vec of_average, vec *back) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            mask here = corner[i * wide + j] == most;
            back[i * wide + j] += of_average + (vec)(here & (mask)of_most);
            of_most = (vec)(~here & (mask)of_most);
        }
}

typedef struct { vec *tile, *back, *of[3]; } Room; /* of[o]: results of operation o; the identity's is the tile */

static Room room_of(const Shape *s) {
    int64_t area = s->height * s->width;
    vec *tile = scratch(2 * area + 2 * pixels_out(s)), *pool = tile + 2 * area;
    return (Room){tile, tile + area, {pool, pool + pixels_out(s), tile}};
}

/* Load one chunk of one source of one image; if `pool`, compute its 3x3 maxima and its averages within the image. */
static void load(const Shape *s, const REAL *x, int64_t n, int64_t k, int64_t lanes, int pool, const Room *room) {
    int64_t area = s->height * s->width, columns = columns_out(s);
    const REAL *from = x + n * area * s->channels + k * V;
    vec *tile = room->tile, *largest = room->of[0], *average = room->of[1];
    for (int64_t p = 0; p < area; p++) tile[p] = gather(from + p * s->channels, lanes);
    for (int64_t r = 0; pool && r < rows_out(s); r++)
        for (int64_t c = 0; c < columns; c++) {
            Window w = window(s, r, c);
            const vec *corner = tile + w.top * s->width + w.left;
            vec sum;
            if (whole(w)) pool_of(corner, s->width, 3, 3, largest + r * columns + c, &sum);
            else pool_of(corner, s->width, w.bottom - w.top, w.right - w.left, largest + r * columns + c, &sum);
            average[r * columns + c] = sum * share(w);
        }
}

#define CHUNKS_OF_SOURCES(s) \
    int64_t source = 0; source < s->sources; source++) for (int64_t k = 0, lanes; \
        lanes = lanes_of(s, k), k < chunks_of(s); k++

/* Vector of a chunk in the statistics. */
static int64_t at_vector(const Shape *s, int64_t o, int64_t source, int64_t k) {
    return (o * s->sources + source) * chunks_of(s) + k;
}

/* Mean and 1 / sqrt(variance + EPSILON) of the pools. */
static int statistics(const Mixing *m, const REAL *const *x, REAL *mean, REAL *rstd) {
    const Shape *s = m->s;
    int64_t all = at_vector(s, 2, 0, 0);
    int failed = 0;
    Moments *moments = calloc(s->threads * all, sizeof *moments);
    if (!moments) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        Room room = room_of(s);
        if (!room.tile) { failed = 1; continue; }
        for (IMAGES_OF(t))
            for (CHUNKS_OF_SOURCES(s)) {
                if (!pooled(m, source)) continue;
                load(s, x[source], n, k, lanes, 1, &room);
                FOR(o, 2)
                    add_moments(moments + t * all + at_vector(s, o, source, k), room.of[o], 1, pixels_out(s));
            }
    }
    normalisation(moments, s->threads, all, mean, rstd);
    free(moments);
    return failed;
}

INLINE void mix(int64_t lanes, const vec *largest, const vec *average, const vec *tile, const vec *factor, vec shift,
                REAL identity, int64_t pixels, int64_t step, REAL *to) {
    for (int64_t p = 0; p < pixels; p++, to += step) {
        vec sum = gather(to, lanes);
        if (largest) sum = sum + shift + factor[0] * largest[p] + factor[1] * average[p];
        if (tile) sum += identity * tile[p];
        put(sum, to, lanes);
    }
}

/* Add to `nodes`; write mean and 1 / sqrt(variance + EPSILON) of the pools. operations: 2, or 3 with identity. */
int forward(const Shape *s, int64_t operations, int64_t sparse, const REAL *const *x, const REAL *mixing, REAL *mean,
            REAL *rstd, REAL *const *nodes) {
    int64_t pixels = pixels_out(s), c = s->channels;
    Mixing m = {s, operations, sparse, mixing};
    int failed = statistics(&m, x, mean, rstd);
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        Room room = room_of(s);
        if (!room.tile || failed) { failed = 1; continue; }
        for (IMAGES_OF(t))
            for (CHUNKS_OF_SOURCES(s)) {
                int64_t targets[s->nodes], count = nodes_of(&m, source, operations, targets);
                int pool = pooled(&m, source);
                if (count) load(s, x[source], n, k, lanes, pool, &room);
                for (int64_t i = 0; i < count; i++) {
                    const REAL *a = mixing + targets[i] * operations * s->sources + source;
                    vec factor[2], shift = {0};
                    FOR(o, 2) {
                        int64_t at = at_vector(s, o, source, k);
                        factor[o] = ((const vec *)rstd)[at] * a[o * s->sources];
                        shift -= ((const vec *)mean)[at] * factor[o];
                    }
                    ANY(mix, pool ? room.of[0] : NULL, room.of[1], operations == 3 ? room.tile : NULL, factor, shift,
                        operations == 3 ? a[2 * s->sources] : 0, pixels, c, nodes[targets[i]] + n * pixels * c + k * V);
                }
            }
    }
    return failed;
}

/* Sums (node, operation, source, 2, chunk, lane) for the gradient g in a node: of g, and of g (result - mean); the mean
   of the identity is 0. */
static int64_t at_sums(const Mixing *m, int64_t node, int64_t o, int64_t source) {
    return ((node * m->operations + o) * m->s->sources + source) * 2 * chunks_of(m->s) * V;
}

static int gradient_sums(const Mixing *m, const REAL *const *x, const REAL *mean, const REAL *const *g, double *sums) {
    const Shape *s = m->s;
    int64_t chunks = chunks_of(s), pixels = pixels_out(s), all = at_sums(m, s->nodes, 0, 0);
    int failed = 0;
    double *parts = calloc(s->threads * all, sizeof *parts);
    if (!parts) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        Room room = room_of(s);
        if (!room.tile) { failed = 1; continue; }
        for (IMAGES_OF(t))
            for (CHUNKS_OF_SOURCES(s)) {
                int64_t targets[s->nodes], count = nodes_of(m, source, m->operations, targets);
                if (count) load(s, x[source], n, k, lanes, pooled(m, source), &room);
                for (int64_t i = 0; i < count * m->operations; i++) {
                    int64_t node = targets[i / m->operations], o = i % m->operations;
                    if (has(m, node, source, o, o + 1))
                        ANY(add_gradients, g[node] + n * pixels * s->channels + k * V, s->channels, room.of[o], 1,
                            o < 2 ? ((const vec *)mean)[at_vector(s, o, source, k)] : (vec){0}, pixels,
                            parts + t * all + at_sums(m, node, o, source) + k * V, chunks * V);
                }
            }
    }
    sum_threads(parts, s->threads, all, sums);
    free(parts);
    return failed;
}

/* Gradients in mixing: sums of g times the normalised results. */
static void mixing_gradients(const Mixing *m, const double *sums, const REAL *rstd, REAL *mixing_g) {
    const Shape *s = m->s;
    int64_t lanes = chunks_of(s) * V;
    for (int64_t i = 0; i < s->nodes * m->operations * s->sources; i++) {
        int64_t o = i / s->sources % m->operations, source = i % s->sources;
        double sum = 0;
        for (int64_t l = 0; l < lanes; l++)
            sum += sums[(2 * i + 1) * lanes + l] * (o < 2 ? rstd[at_vector(s, o, source, 0) * V + l] : 1);
        mixing_g[i] = sum;
    }
}

/* Of one pool, for the mixed gradient. */
static Norm norm_of(const Mixing *m, const REAL *mean, const REAL *rstd, const double *sums, int64_t o, int64_t source,
                    int64_t k) {
    const Shape *s = m->s;
    int64_t at = at_vector(s, o, source, k), count = s->images * pixels_out(s);
    Norm norm = {((const vec *)rstd)[at], {0}, {0}, ((const vec *)mean)[at]};
    for (int64_t node = 0; node < s->nodes; node++) {
        const double *of = sums + at_sums(m, node, o, source) + k * V;
        REAL weight = weight_of(m, node, o, source) / count;
        for (int l = 0; l < V; l++) {
            norm.first[l] += weight * of[l];
            norm.second[l] += weight * of[chunks_of(s) * V + l];
        }
    }
    norm.second *= norm.factor * norm.factor;
    return norm;
}

/* Gradient in one chunk of an image of a source, into room->back. norms: NULL if it is not pooled. */
INLINE void back_tile(int64_t lanes, const Mixing *m, int64_t source, const Norm *norms, const REAL *const *g,
                      int64_t at, const Room *room) {
    const Shape *s = m->s;
    int64_t columns = columns_out(s), operations = m->operations, targets[s->nodes];
    int64_t count = nodes_of(m, source, operations, targets);
    const REAL *mixing = m->weights + source;
    memset(room->back, 0, s->height * s->width * sizeof *room->back);
    for (int64_t r = 0; r < rows_out(s); r++)
        for (int64_t c = 0; c < columns; c++) {
            int64_t p = r * columns + c;
            vec of[3] = {{0}}, most = room->of[0][p];
            for (int64_t i = 0; i < count; i++) {
                const REAL *a = mixing + targets[i] * operations * s->sources;
                vec slope = gather(g[targets[i]] + at + p * s->channels, lanes);
                for (int64_t o = 0; o < operations; o++) of[o] += a[o * s->sources] * slope;
            }
            if (operations == 3 && !norms) room->back[p] = of[2];
            if (!norms) continue;
            FOR(o, 2)
                of[o] = norms[o].factor * (of[o] - norms[o].first - (room->of[o][p] - norms[o].mean) * norms[o].second);
            Window w = window(s, r, c);
            int64_t corner = w.top * s->width + w.left;
            const vec *tile = room->tile + corner;
            vec *back = room->back + corner;
            of[1] *= share(w);
            if (whole(w)) spread_of(tile, s->width, 3, 3, most, of[0], of[1], back);
            else spread_of(tile, s->width, w.bottom - w.top, w.right - w.left, most, of[0], of[1], back);
            if (operations == 3) room->back[p] += of[2];
        }
}

/* Gradients in x (unless gx is NULL) and mixing, for the gradients g in the nodes. */
int backward(const Shape *s, int64_t operations, int64_t sparse, const REAL *const *x, const REAL *mixing,
             const REAL *mean, const REAL *rstd, const REAL *const *g, REAL *const *gx, REAL *mixing_g) {
    Mixing m = {s, operations, sparse, mixing};
    int64_t area = s->height * s->width, c = s->channels;
    int failed = 0;
    double *sums = malloc(at_sums(&m, s->nodes, 0, 0) * sizeof *sums);
    if (!sums || gradient_sums(&m, x, mean, g, sums)) { free(sums); return 1; }
    mixing_gradients(&m, sums, rstd, mixing_g);
    if (!gx) { free(sums); return 0; }
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        Room room = room_of(s);
        if (!room.tile) { failed = 1; continue; }
        for (IMAGES_OF(t))
            for (CHUNKS_OF_SOURCES(s)) {
                Norm norms[2];
                int pool = pooled(&m, source);
                FOR(o, 2) norms[o] = norm_of(&m, mean, rstd, sums, o, source, k);
                if (pool) load(s, x[source], n, k, lanes, pool, &room);
                ANY(back_tile, &m, source, pool ? norms : NULL, g, n * pixels_out(s) * c + k * V, &room);
                REAL *to = gx[source] + n * area * c + k * V;
                for (int64_t p = 0; p < area; p++) put(room.back[p], to + p * c, lanes);
            }
    }
    free(sums);
    return failed;
}
