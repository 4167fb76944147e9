/* Pooling and identity of the sources of a wave, mixed for each target node.

     nodes[m] += sum over sources s of  mixing[m, 0, s] BN(max pool(x_s)) + mixing[m, 1, s] BN(average pool(x_s))
                                      + mixing[m, 2, s] x_s                     (the last at stride 1 alone)

   Called by pooling.py. Pools are recomputed where they are needed, which is cheaper than storing them. Each source,
   node and gradient is (image, row, column, channel), channels-last; mixing (node, operation, source), statistics
   (pool, source, chunk, lane). Every function returns 0, or 1 if it is out of memory. */

#include "moments.h"

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

/* Load one chunk of one source of one image; compute its 3x3 maxima and its averages within the image. */
static void pools(const Shape *s, const REAL *x, int64_t n, int64_t k, vec *tile, vec *largest, vec *average) {
    int64_t area = s->height * s->width, columns = columns_out(s);
    const REAL *from = x + n * area * s->channels + k * V;
    for (int64_t p = 0; p < area; p++) tile[p] = gather(from + p * s->channels, lanes_of(s, k));
    for (int64_t r = 0; r < rows_out(s); r++)
        for (int64_t c = 0; c < columns; c++) {
            Window w = window(s, r, c);
            const vec *corner = tile + w.top * s->width + w.left;
            vec sum;
            if (whole(w)) pool_of(corner, s->width, 3, 3, largest + r * columns + c, &sum);
            else pool_of(corner, s->width, w.bottom - w.top, w.right - w.left, largest + r * columns + c, &sum);
            average[r * columns + c] = sum * share(w);
        }
}

/* Add to `nodes`; write mean and 1 / sqrt(variance + EPSILON) of the pools. operations: 2, or 3 with identity. */
int forward(const Shape *s, int64_t operations, const REAL *const *x, const REAL *mixing, REAL *mean, REAL *rstd,
            REAL *const *nodes) {
    int64_t sources = s->sources, chunks = chunks_of(s), lanes = 2 * sources * chunks * V, pixels = pixels_out(s);
    int64_t area = s->height * s->width;
    int failed = 0;
    Moments *moments = calloc(s->threads * lanes, sizeof *moments);
    if (!moments) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *tile = scratch(area + 2 * pixels), *pool[2] = {tile + area, tile + area + pixels};
        if (!tile) { failed = 1; continue; }
        for (IMAGES_OF(t))
            for (int64_t source = 0; source < sources; source++)
                for (int64_t k = 0; k < chunks; k++) {
                    pools(s, x[source], n, k, tile, pool[0], pool[1]);
                    for (int64_t o = 0; o < 2; o++)
                        add_moments(moments + t * lanes + ((o * sources + source) * chunks + k) * V, pool[o], pixels);
                }
    }
    if (!failed) normalisation(moments, s->threads, lanes, mean, rstd);
    free(moments);
    if (failed) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *tile = scratch(area + 2 * pixels), *pool[2] = {tile + area, tile + area + pixels};
        if (!tile) { failed = 1; continue; }
        for (IMAGES_OF(t))
            for (int64_t k = 0; k < chunks; k++)
                for (int64_t source = 0; source < sources; source++) {
                    pools(s, x[source], n, k, tile, pool[0], pool[1]);
                    for (int64_t node = 0; node < s->nodes; node++) {
                        const REAL *a = mixing + node * operations * sources + source;
                        vec factor[2], shift = {0};
                        REAL identity = operations == 3 ? a[2 * sources] : 0;
                        for (int64_t o = 0; o < 2; o++) {
                            int64_t at = (o * sources + source) * chunks + k;
                            factor[o] = ((const vec *)rstd)[at] * a[o * sources];
                            shift -= ((const vec *)mean)[at] * factor[o];
                        }
                        REAL *to = nodes[node] + n * pixels * s->channels + k * V;
                        for (int64_t p = 0; p < pixels; p++) {
                            vec sum = gather(to + p * s->channels, lanes_of(s, k)) + shift;
                            sum += factor[0] * pool[0][p] + factor[1] * pool[1][p];
                            if (operations == 3) sum += identity * tile[p];
                            put(sum, to + p * s->channels, lanes_of(s, k));
                        }
                    }
                }
    }
    return failed;
}

/* sums (node, 1 + 3 sources, chunk, lane): of g, and for each operation and source of g (pool - mean), or of g x */
static int gradient_sums(const Shape *s, int64_t operations, const REAL *const *x, const REAL *mean,
                         const REAL *const *g, double *sums) {
    int64_t sources = s->sources, chunks = chunks_of(s), pixels = pixels_out(s), area = s->height * s->width;
    int64_t of_node = (1 + 3 * sources) * chunks * V, all = s->nodes * of_node;
    int failed = 0;
    double *parts = calloc(s->threads * all, sizeof *parts);
    if (!parts) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *tile = scratch(area + 2 * pixels), *of[3] = {tile + area, tile + area + pixels, tile};
        if (!tile) { failed = 1; continue; }
        for (IMAGES_OF(t))
            for (int64_t source = 0; source < sources; source++)
                for (int64_t k = 0; k < chunks; k++) {
                    pools(s, x[source], n, k, tile, of[0], of[1]);
                    vec middle[3] = {{0}};
                    for (int64_t o = 0; o < 2; o++)
                        middle[o] = ((const vec *)mean)[(o * sources + source) * chunks + k];
                    for (int64_t node = 0; node < s->nodes; node++) {
                        const REAL *slope = g[node] + n * pixels * s->channels + k * V;
                        vec sum = {0}, with[3] = {{0}};
                        for (int64_t p = 0; p < pixels; p++) {
                            vec one = gather(slope + p * s->channels, lanes_of(s, k));
                            sum += one;
                            for (int o = 0; o < 2; o++) with[o] += one * (of[o][p] - middle[o]);
                            if (operations == 3) with[2] += one * tile[p];
                        }
                        double *into = parts + t * all + node * of_node + k * V;
                        for (int l = 0; l < V; l++) {
                            if (source == 0) into[l] += sum[l];
                            for (int64_t o = 0; o < 3; o++)
                                into[(1 + o * sources + source) * chunks * V + l] += with[o][l];
                        }
                    }
                }
    }
    sum_threads(parts, s->threads, all, sums);
    free(parts);
    return failed;
}

/* Gradients in x (unless gx is NULL) and mixing, for the gradients g in the nodes. */
int backward(const Shape *s, int64_t operations, const REAL *const *x, const REAL *mixing, const REAL *mean,
             const REAL *rstd, const REAL *const *g, REAL *const *gx, REAL *mixing_g) {
    int64_t sources = s->sources, chunks = chunks_of(s), pixels = pixels_out(s), area = s->height * s->width;
    int64_t of_node = (1 + 3 * sources) * chunks * V, columns = columns_out(s), count = s->images * pixels;
    int failed = 0;
    double *sums = malloc(s->nodes * of_node * sizeof *sums);
    if (!sums || gradient_sums(s, operations, x, mean, g, sums)) { free(sums); return 1; }
    for (int64_t node = 0; node < s->nodes; node++)
        for (int64_t o = 0; o < operations; o++)
            for (int64_t source = 0; source < sources; source++) {
                const double *with = sums + node * of_node + (1 + o * sources + source) * chunks * V;
                double sum = 0;
                for (int64_t i = 0; i < chunks * V; i++)
                    sum += o < 2 ? with[i] * rstd[(o * sources + source) * chunks * V + i] : with[i];
                mixing_g[(node * operations + o) * sources + source] = sum;
            }
    if (!gx) { free(sums); return 0; }
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *tile = scratch(2 * area + 2 * pixels), *back = tile + area, *pool[2] = {back + area, back + area + pixels};
        if (!tile) { failed = 1; continue; }
        for (IMAGES_OF(t))
            for (int64_t source = 0; source < sources; source++)
                for (int64_t k = 0; k < chunks; k++) {
                    const REAL *a = mixing + source;
                    vec middle[2], scale[2], first[2] = {{0}}, second[2] = {{0}};
                    for (int64_t o = 0; o < 2; o++) {
                        int64_t at = (o * sources + source) * chunks + k;
                        middle[o] = ((const vec *)mean)[at], scale[o] = ((const vec *)rstd)[at];
                        for (int64_t node = 0; node < s->nodes; node++) {
                            const double *of = sums + node * of_node + k * V;
                            const double *with = of + (1 + o * sources + source) * chunks * V;
                            REAL weight = a[(node * operations + o) * sources] / count;
                            for (int l = 0; l < V; l++) first[o][l] += weight * of[l], second[o][l] += weight * with[l];
                        }
                        second[o] *= scale[o] * scale[o];
                    }
                    pools(s, x[source], n, k, tile, pool[0], pool[1]);
                    memset(back, 0, area * sizeof *back);
                    for (int64_t r = 0; r < rows_out(s); r++)
                        for (int64_t c = 0; c < columns; c++) {
                            int64_t p = r * columns + c;
                            vec of[3] = {{0}};
                            for (int64_t node = 0; node < s->nodes; node++) {
                                vec slope = gather(g[node] + (n * pixels + p) * s->channels + k * V, lanes_of(s, k));
                                for (int64_t o = 0; o < operations; o++)
                                    of[o] += a[(node * operations + o) * sources] * slope;
                            }
                            for (int o = 0; o < 2; o++) /* through BatchNorm */
                                of[o] = scale[o] * (of[o] - first[o] - (pool[o][p] - middle[o]) * second[o]);
                            Window w = window(s, r, c);
                            int64_t at = w.top * s->width + w.left;
                            of[1] *= share(w);
                            if (whole(w)) spread_of(tile + at, s->width, 3, 3, pool[0][p], of[0], of[1], back + at);
                            else spread_of(tile + at, s->width, w.bottom - w.top, w.right - w.left, pool[0][p], of[0],
                                           of[1], back + at);
                            if (operations == 3) back[p] += of[2];
                        }
                    REAL *to = gx[source] + n * area * s->channels + k * V;
                    for (int64_t p = 0; p < area; p++) put(back[p], to + p * s->channels, lanes_of(s, k));
                }
    }
    free(sums);
    return failed;
}
