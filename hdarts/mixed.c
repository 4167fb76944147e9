/* The edges of NAS-Bench-201 that leave one node x, mixed for the nodes m that they lead to:

     nodes[m] += weights[m, SKIP] x + sum over o of weights[m, CONVOLVED + o] BN(y_o[m])
                                    + weights[m, MEAN] mean of the 3x3 pixels of x that are in the image

   Written for hdarts/mixed.py; y_0 and y_1 are the convolutions of all these edges. Means are made again wherever they
   are needed: that costs less than to keep them. x, each node and each gradient are (image, row, column, channel), y
   (image, row, column, node, channel), statistics (o, node, chunk, lane). Every function returns 0, or 1 where there
   was no memory. */

#include "moments.h"

enum { SKIP = 1, CONVOLVED = 2, MEAN = 4, OPERATIONS = 5 }; /* 0 is `none` */
enum { SLOPE = 0, SUMS = 5 };                               /* sums of g alone, and of g times each operation */
enum { BLOCK = 64 };                                        /* pixels at a time, so that the cache keeps them */

#define BLOCKS_OF(area) int64_t p = 0, size; size = area - p < BLOCK ? area - p : BLOCK, p < area; p += BLOCK
#define NODES_AND_CHUNKS(s) \
    int64_t node = 0; node < s->fan; node++) for (int64_t k = 0, lanes; lanes = lanes_of(s, k), k < chunks_of(s); k++
#define ANY(call, ...) (lanes == V ? call(V, __VA_ARGS__) : call(lanes, __VA_ARGS__)) /* without a branch a pixel */

static int64_t at_lane(const Shape *s, int64_t o, int64_t node, int64_t k) {
    return ((o * s->fan + node) * chunks_of(s) + k) * V;
}

static vec lanes_at(const Shape *s, const REAL *of, int64_t o, int64_t node, int64_t k) {
    return *(const vec *)(of + at_lane(s, o, node, k));
}

/* Where a chunk of a pixel, counted over all images, starts in x or a node, and in y. */
static int64_t in_x(const Shape *s, int64_t pixel, int64_t k) { return pixel * s->channels + k * V; }
static int64_t in_y(const Shape *s, int64_t pixel, int64_t node, int64_t k) {
    return (pixel * s->fan + node) * s->channels + k * V;
}

INLINE void load_lanes(int64_t lanes, const REAL *from, int64_t step, int64_t pixels, vec *tile) {
    for (int64_t p = 0; p < pixels; p++) tile[p] = gather(from + p * step, lanes);
}

/* Sums of 3x3 pixels, zeros beyond the border; `column` has room for a row. */
static void sums_of_nine(const Shape *s, const vec *x, vec *column, vec *sums) {
    int64_t wide = s->width;
    for (int64_t r = 0; r < s->height; r++, x += wide, sums += wide) {
        for (int64_t c = 0; c < wide; c++) column[c] = x[c];
        for (int64_t c = 0; r > 0 && c < wide; c++) column[c] += x[c - wide];
        for (int64_t c = 0; r + 1 < s->height && c < wide; c++) column[c] += x[c + wide];
        sums[0] = column[0];
        for (int64_t c = 1; c < wide; c++) sums[c] = column[c - 1] + column[c];
        for (int64_t c = 1; c < wide; c++) sums[c - 1] += column[c];
    }
}

/* Divides each pixel by how many of the 3x3 around it are in the image. */
static void divide(const Shape *s, vec *x) {
    for (int64_t r = 0; r < s->height; r++)
        for (int64_t c = 0; c < s->width; c++) {
            int rows = 1 + (r > 0) + (r + 1 < s->height), columns = 1 + (c > 0) + (c + 1 < s->width);
            *x++ *= (REAL)1 / (rows * columns);
        }
}

/* Means of 3x3 pixels of an image (chunk, pixel); behind them there is room for a chunk and a row. */
static void averages(const Shape *s, const REAL *x, int64_t n, vec *to) {
    int64_t area = s->height * s->width;
    vec *tile = to + chunks_of(s) * area;
    for (int64_t k = 0; k < chunks_of(s); k++, to += area) {
        int64_t lanes = lanes_of(s, k);
        ANY(load_lanes, x + in_x(s, n * area, k), s->channels, area, tile);
        sums_of_nine(s, tile, tile + area, to);
        divide(s, to);
    }
}

/* One chunk of some pixels: of what is mixed, and the steps from pixel to pixel. */
typedef struct { const REAL *x, *y[2]; const vec *average; int64_t pixels, step, step_y; } Part;

static Part part_of(const Shape *s, const REAL *x, const REAL *const *y, const vec *average, int64_t n, int64_t p,
                    int64_t pixels, int64_t node, int64_t k) {
    int64_t area = s->height * s->width, pixel = n * area + p, c = s->channels, here = in_y(s, pixel, node, k);
    return (Part){x + in_x(s, pixel, k), {y[0] + here, y[1] + here}, average + k * area + p, pixels, c, s->fan * c};
}

INLINE void mix(int64_t lanes, Part of, const REAL *a, const vec *factor, vec shift, REAL *node) {
    for (int64_t p = 0; p < of.pixels; p++) {
        vec sum = gather(node + p * of.step, lanes) + shift + a[SKIP] * gather(of.x + p * of.step, lanes);
        sum += a[MEAN] * of.average[p];
        for (int o = 0; o < 2; o++) sum += factor[o] * gather(of.y[o] + p * of.step_y, lanes);
        put(sum, node + p * of.step, lanes);
    }
}

/* Adds to `nodes`; writes mean and 1 / sqrt(variance + EPSILON) of y. */
int forward(const Shape *s, const REAL *x, const REAL *const *y, const REAL *weights, REAL *mean, REAL *rstd,
            REAL *const *nodes) {
    int64_t area = s->height * s->width, all = at_lane(s, 2, 0, 0);
    int failed = 0;
    Moments *moments = calloc(s->threads * all, sizeof *moments);
    if (!moments) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++)
        for (IMAGES_OF(t))
            for (BLOCKS_OF(area))
                for (int64_t o = 0; o < 2; o++)
                    for (NODES_AND_CHUNKS(s)) {
                        vec tile[BLOCK];
                        const REAL *from = y[o] + in_y(s, n * area + p, node, k);
                        ANY(load_lanes, from, s->fan * s->channels, size, tile);
                        add_moments(moments + t * all + at_lane(s, o, node, k), tile, size);
                    }
    normalisation(moments, s->threads, all, mean, rstd);
    free(moments);
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *average = scratch((chunks_of(s) + 1) * area + s->width);
        if (!average) { failed = 1; continue; }
        for (IMAGES_OF(t)) {
            averages(s, x, n, average);
            for (BLOCKS_OF(area))
                for (NODES_AND_CHUNKS(s)) {
                    const REAL *a = weights + node * OPERATIONS;
                    vec factor[2], shift = {0};
                    for (int64_t o = 0; o < 2; o++) {
                        factor[o] = lanes_at(s, rstd, o, node, k) * a[CONVOLVED + o];
                        shift -= lanes_at(s, mean, o, node, k) * factor[o];
                    }
                    Part of = part_of(s, x, y, average, n, p, size, node, k);
                    ANY(mix, of, a, factor, shift, nodes[node] + in_x(s, n * area + p, k));
                }
        }
    }
    return failed;
}

INLINE void add_products(int64_t lanes, Part of, const REAL *g, const vec *middle, vec *sums) {
    vec with[SUMS] = {{0}};
    for (int64_t p = 0; p < of.pixels; p++) {
        vec one = gather(g + p * of.step, lanes);
        with[SLOPE] += one;
        with[SKIP] += one * gather(of.x + p * of.step, lanes);
        with[MEAN] += one * of.average[p];
        for (int o = 0; o < 2; o++)
            with[CONVOLVED + o] += one * (gather(of.y[o] + p * of.step_y, lanes) - middle[o]);
    }
    for (int i = 0; i < SUMS; i++) sums[i] = with[i];
}

/* sums (SUMS, node, chunk, lane): of g, of g x, of g (y - mean) for each y, and of g times the mean of 3x3 pixels */
static int gradient_sums(const Shape *s, const REAL *x, const REAL *const *y, const REAL *mean, const REAL *const *g,
                         double *sums) {
    int64_t area = s->height * s->width, all = at_lane(s, SUMS, 0, 0);
    int failed = 0;
    double *parts = calloc(s->threads * all, sizeof *parts);
    if (!parts) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *average = scratch((chunks_of(s) + 1) * area + s->width);
        if (!average) { failed = 1; continue; }
        for (IMAGES_OF(t)) {
            averages(s, x, n, average);
            for (BLOCKS_OF(area))
                for (NODES_AND_CHUNKS(s)) {
                    vec with[SUMS], middle[2] = {lanes_at(s, mean, 0, node, k), lanes_at(s, mean, 1, node, k)};
                    Part of = part_of(s, x, y, average, n, p, size, node, k);
                    ANY(add_products, of, g[node] + in_x(s, n * area + p, k), middle, with);
                    for (int64_t i = 0; i < SUMS; i++)
                        for (int l = 0; l < V; l++) parts[t * all + at_lane(s, i, node, k) + l] += with[i][l];
                }
        }
    }
    for (int64_t i = 0; i < all; i++) {
        sums[i] = 0;
        for (int64_t t = 0; t < s->threads; t++) sums[i] += parts[t * all + i];
    }
    free(parts);
    return failed;
}

/* Through BatchNorm: gy = factor (g - first - (y - mean) second) */
typedef struct { vec factor, first, second, mean; } Norm;

INLINE void through(int64_t lanes, Norm norm, const REAL *g, int64_t step, const REAL *y, int64_t step_y,
                    int64_t pixels, REAL *gy) {
    for (int64_t p = 0; p < pixels; p++) {
        vec one = gather(g + p * step, lanes) - norm.first;
        one -= (gather(y + p * step_y, lanes) - norm.mean) * norm.second;
        put(norm.factor * one, gy + p * step_y, lanes);
    }
}

static Norm norm_of(const Shape *s, const double *sums, const REAL *mean, const REAL *rstd, REAL weight, int64_t o,
                    int64_t node, int64_t k) {
    vec scale = lanes_at(s, rstd, o, node, k), first, second;
    double count = s->images * s->height * s->width;
    for (int l = 0; l < V; l++) {
        first[l] = sums[at_lane(s, SLOPE, node, k) + l] / count;
        second[l] = sums[at_lane(s, CONVOLVED + o, node, k) + l] / count;
    }
    return (Norm){weight * scale, first, second * scale * scale, lanes_at(s, mean, o, node, k)};
}

INLINE void through_means(int64_t lanes, const Shape *s, const REAL *weights, const REAL *const *g, int64_t at,
                          vec *direct, REAL *gx) {
    int64_t area = s->height * s->width, c = s->channels;
    vec *spread = direct + area, *back = spread + area;
    memset(direct, 0, 2 * area * sizeof *direct);
    for (int64_t node = 0; node < s->fan; node++)
        for (int64_t p = 0; p < area; p++) {
            vec one = gather(g[node] + at + p * c, lanes);
            direct[p] += weights[node * OPERATIONS + SKIP] * one;
            spread[p] += weights[node * OPERATIONS + MEAN] * one;
        }
    divide(s, spread);
    sums_of_nine(s, spread, back + area, back);
    for (int64_t p = 0; p < area; p++) put(direct[p] + back[p], gx + at + p * c, lanes);
}

/* Gradients in x, y and weights for g, the gradients in the nodes. */
int backward(const Shape *s, const REAL *x, const REAL *const *y, const REAL *weights, const REAL *mean,
             const REAL *rstd, const REAL *const *g, REAL *gx, REAL *const *gy, REAL *weights_g) {
    int64_t area = s->height * s->width, c = s->channels;
    int failed = 0;
    double *sums = malloc(at_lane(s, SUMS, 0, 0) * sizeof *sums);
    if (!sums || gradient_sums(s, x, y, mean, g, sums)) { free(sums); return 1; }
    for (int64_t node = 0; node < s->fan; node++)
        for (int64_t o = 0; o < OPERATIONS; o++) {
            const REAL *scale = o == CONVOLVED || o == CONVOLVED + 1 ? rstd + at_lane(s, o - CONVOLVED, node, 0) : NULL;
            double sum = 0;
            for (int64_t i = 0; o && i < chunks_of(s) * V; i++)
                sum += sums[at_lane(s, o, node, 0) + i] * (scale ? scale[i] : 1);
            weights_g[node * OPERATIONS + o] = sum;
        }
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *tiles = scratch(3 * area + s->width);
        if (!tiles) { failed = 1; continue; }
        for (IMAGES_OF(t)) {
            for (BLOCKS_OF(area))
                for (int64_t o = 0; o < 2; o++)
                    for (NODES_AND_CHUNKS(s)) {
                        Norm norm = norm_of(s, sums, mean, rstd, weights[node * OPERATIONS + CONVOLVED + o], o, node, k);
                        int64_t pixel = n * area + p, at = in_y(s, pixel, node, k);
                        ANY(through, norm, g[node] + in_x(s, pixel, k), c, y[o] + at, s->fan * c, size, gy[o] + at);
                    }
            for (int64_t k = 0; k < chunks_of(s); k++) {
                int64_t lanes = lanes_of(s, k);
                ANY(through_means, s, weights, g, in_x(s, n * area, k), tiles, gx);
            }
        }
    }
    free(sums);
    return failed;
}
