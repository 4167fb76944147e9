/* Partial channels: what bypasses the operations of a cell, and the shuffle of the channels of a node.

   Called by partial_channels.py. Tensors are (pixel of an image, channel), or (pixel, channel of the first of `groups`
   groups). Pixels are computed in blocks that stay in the cache. Returns 0, or 1 if it is out of memory. */

#include "lanes.h"

enum { BLOCK = 64 };

#define BLOCKS_OF(t) \
    int64_t all = s->images * s->height * s->width, end = all * ((t) + 1) / s->threads, p = all * (t) / s->threads, n; \
    n = end - p < BLOCK ? end - p : BLOCK, p < end; p += n

/* first (source) = the first channels of x; sums (node) = or, if `add`, += weights (node, source) x (source) */
int split(const Shape *s, int64_t groups, const REAL *const *x, const REAL *weights, int64_t add, REAL *const *first,
          REAL *const *sums) {
    int64_t channels = s->channels, size = channels / groups;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (BLOCKS_OF(t))
            for (int64_t i = 0; i < s->sources; i++) {
                const REAL *from = x[i] + p * channels;
                for (int64_t q = 0; q < n; q++)
                    for (int64_t c = 0; c < size; c++) first[i][(p + q) * size + c] = from[q * channels + c];
                for (int64_t j = 0; j < s->nodes; j++) {
                    REAL *to = sums[j] + p * channels, weight = weights[j * s->sources + i];
                    if (add || i) for (int64_t k = 0; k < n * channels; k++) to[k] += weight * from[k];
                    else for (int64_t k = 0; k < n * channels; k++) to[k] = weight * from[k];
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

/* Gradients in x and, unless it is NULL, in the weights. The gradients g in the sums are 0 in the first channels. */
int split_back(const Shape *s, int64_t groups, const REAL *const *x, const REAL *weights, const REAL *const *first_grads,
               const REAL *const *g, REAL *const *x_grads, REAL *weights_grad) {
    int64_t channels = s->channels, size = channels / groups, edges = edges_of(s);
    double *parts = calloc((s->threads + 1) * (edges + 1), sizeof *parts);
    if (!parts) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (BLOCKS_OF(t))
            for (int64_t i = 0; i < s->sources; i++) {
                REAL *to = x_grads[i] + p * channels;
                memset(to, 0, n * channels * sizeof *to);
                for (int64_t j = 0; j < s->nodes; j++) {
                    const REAL *from = g[j] + p * channels, weight = weights[j * s->sources + i];
                    for (int64_t k = 0; k < n * channels; k++) to[k] += weight * from[k];
                    if (weights_grad)
                        parts[t * edges + j * s->sources + i] += dot(from, x[i] + p * channels, n * channels);
                }
                for (int64_t q = 0; q < n; q++)
                    for (int64_t c = 0; c < size; c++) to[q * channels + c] += first_grads[i][(p + q) * size + c];
            }
    double *sums = parts + s->threads * edges;
    if (weights_grad) {
        sum_threads(parts, s->threads, edges, sums);
        for (int64_t e = 0; e < edges; e++) weights_grad[e] = sums[e];
    }
    free(parts);
    return 0;
}

/* Channel c of group g becomes channel c * groups + g; the first group is that of `mixed`. */
int shuffle(const Shape *s, int64_t groups, const REAL *mixed, const REAL *rest, REAL *out) {
    int64_t channels = s->channels, size = channels / groups;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (BLOCKS_OF(t))
            for (int64_t q = p; q < p + n; q++)
                for (int64_t c = 0; c < size; c++) {
                    REAL *to = out + q * channels + c * groups;
                    to[0] = mixed[q * size + c];
                    for (int64_t k = 1; k < groups; k++) to[k] = rest[q * channels + k * size + c];
                }
    return 0;
}

/* The inverse; 0 in the first channels of `rest`. */
int unshuffle(const Shape *s, int64_t groups, const REAL *g, REAL *mixed, REAL *rest) {
    int64_t channels = s->channels, size = channels / groups;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (BLOCKS_OF(t))
            for (int64_t q = p; q < p + n; q++)
                for (int64_t c = 0; c < size; c++) {
                    const REAL *from = g + q * channels + c * groups;
                    mixed[q * size + c] = from[0];
                    rest[q * channels + c] = 0;
                    for (int64_t k = 1; k < groups; k++) rest[q * channels + k * size + c] = from[k];
                }
    return 0;
}
