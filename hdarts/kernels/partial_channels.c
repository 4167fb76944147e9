/* Partial channels: what bypasses the operations of a cell, and the shuffle of the channels of a node.

   Called by partial_channels.py. Sources, nodes, sums and their gradients are (pixel of an image, channel), what
   operations work on or return is (pixel, channel of the first of `groups` groups). Pixels are computed in blocks, from
   the parts of a node to what is made of it, while they are in the cache. Returns 0, or 1 if it is out of memory. */

#include "lanes.h"

enum { BLOCK = 64 };

#define BLOCKS_OF(t) \
    int64_t all = s->images * s->height * s->width, end = all * ((t) + 1) / s->threads, p = all * (t) / s->threads, n; \
    n = end - p < BLOCK ? end - p : BLOCK, p < end; p += n
#define SHUFFLE(call, ...) (groups == 4 ? call(4, __VA_ARGS__) : call(groups, __VA_ARGS__)) /* most papers have 4 */

/* Channel c of group g becomes channel c * groups + g; the first group is that of `mixed`. */
INLINE void join(const int64_t groups, int64_t size, int64_t pixels, const REAL *restrict mixed,
                 const REAL *restrict rest, REAL *restrict node) {
    for (int64_t q = 0; q < pixels; q++, rest += groups * size)
        for (int64_t c = 0; c < size; c++, node += groups) {
            node[0] = *mixed++;
            for (int64_t k = 1; k < groups; k++) node[k] = rest[k * size + c];
        }
}

/* The inverse; 0 in the first channels of `rest`. */
INLINE void separate(const int64_t groups, int64_t size, int64_t pixels, const REAL *restrict node,
                     REAL *restrict mixed, REAL *restrict rest) {
    for (int64_t q = 0; q < pixels; q++, rest += groups * size)
        for (int64_t c = 0; c < size; c++, node += groups) {
            *mixed++ = node[0], rest[c] = 0;
            for (int64_t k = 1; k < groups; k++) rest[k * size + c] = node[k];
        }
}

/* x (source), or, unless `mixed` is NULL, the only source is written: the node of `mixed` and `rest`. first (source) =
   its first channels, unless NULL; sums (node) = or, if `add`, += weights (node, source) x (source) */
int forward(const Shape *s, int64_t groups, int64_t add, const REAL *mixed, const REAL *rest, REAL *const *x,
            const REAL *weights, REAL *const *first, REAL *const *sums) {
    int64_t channels = s->channels, size = channels / groups;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (BLOCKS_OF(t)) {
            if (mixed) SHUFFLE(join, size, n, mixed + p * size, rest + p * channels, x[0] + p * channels);
            for (int64_t i = 0; i < s->sources; i++) {
                const REAL *from = x[i] + p * channels;
                for (int64_t q = 0; first && q < n; q++)
                    for (int64_t c = 0; c < size; c++) first[i][(p + q) * size + c] = from[q * channels + c];
                for (int64_t j = 0; j < s->nodes; j++) {
                    REAL *to = sums[j] + p * channels, weight = weights[j * s->sources + i];
                    if (add || i) for (int64_t k = 0; k < n * channels; k++) to[k] += weight * from[k];
                    else for (int64_t k = 0; k < n * channels; k++) to[k] = weight * from[k];
                }
            }
        }
    return 0;
}

static REAL dot(const REAL *a, const REAL *b, int64_t n) {
    vec sums = {0};
    int64_t i = 0;
    for (; i + V <= n; i += V) sums += *(const vec *)(a + i) * *(const vec *)(b + i);
    REAL sum = sum_of(sums);
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Gradients in x, or in `mixed` and `rest` unless they are NULL, and unless it is NULL in the weights. Gradients in the
   node and in the first channels may be NULL, for 0; the gradients g in the sums are 0 in the first channels. */
int backward(const Shape *s, int64_t groups, const REAL *const *x, const REAL *weights, const REAL *node_g,
             const REAL *const *first_g, const REAL *const *g, REAL *const *x_g, REAL *mixed_g, REAL *rest_g,
             REAL *weights_g) {
    int64_t channels = s->channels, size = channels / groups, edges = edges_of(s);
    int failed = 0;
    double *parts = calloc(s->threads * edges + 1, sizeof *parts), sums[edges + 1];
    if (!parts) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        REAL *memory = (REAL *)scratch((BLOCK * channels + V - 1) / V);
        if (!memory) { failed = 1; continue; }
        for (BLOCKS_OF(t)) {
            for (int64_t i = 0; i < s->sources; i++) {
                REAL *to = mixed_g ? memory : x_g[i] + p * channels;
                if (node_g) memcpy(to, node_g + p * channels, n * channels * sizeof *to);
                else memset(to, 0, n * channels * sizeof *to);
                for (int64_t j = 0; j < s->nodes; j++) {
                    const REAL *from = g[j] + p * channels, weight = weights[j * s->sources + i];
                    for (int64_t k = 0; k < n * channels; k++) to[k] += weight * from[k];
                    if (weights_g)
                        parts[t * edges + j * s->sources + i] += dot(from, x[i] + p * channels, n * channels);
                }
                for (int64_t q = 0; first_g && q < n; q++)
                    for (int64_t c = 0; c < size; c++) to[q * channels + c] += first_g[i][(p + q) * size + c];
            }
            if (mixed_g) SHUFFLE(separate, size, n, memory, mixed_g + p * size, rest_g + p * channels);
        }
    }
    sum_threads(parts, s->threads, edges, sums);
    for (int64_t e = 0; weights_g && e < edges; e++) weights_g[e] = sums[e];
    free(parts);
    return failed;
}
