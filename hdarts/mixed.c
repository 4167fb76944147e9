/* The edges of NAS-Bench-201 that leave one node x, mixed for the nodes m that they lead to:

     nodes[m] += weights[m, SKIP] x + sum over o of weights[m, CONVOLVED + o] BN(y_o[m])
                                    + weights[m, MEAN] mean of the 3x3 pixels of x that are in the image

   Written for hdarts/mixed.py; y_0 and y_1 are the convolutions of all these edges. Means are made again wherever they
   are needed: that costs less than to keep them. x, each node and each gradient are (image, row, column, channel), y
   (image, row, column, node, channel), statistics (o, node, chunk, lane). Every function returns 0, or 1 where there
   was no memory. */

#include "moments.h"

enum { SKIP = 1, CONVOLVED = 2, MEAN = 4, OPERATIONS = 5 }; /* 0 is `none` */
enum { SLOPE = 0, SUMS = 5 };                                /* sums of g alone, and of g times each operation */

static int64_t at_lane(const Shape *s, int64_t o, int64_t node, int64_t k) {
    return ((o * s->fan + node) * chunks_of(s) + k) * V;
}

/* Where image n, chunk k starts in a tensor of `edges` times the channels, and in the part of one of them. */
static int64_t start(const Shape *s, int64_t n, int64_t k, int64_t edge, int64_t edges) {
    return (n * s->height * s->width * edges + edge) * s->channels + k * V;
}

static void load(const Shape *s, const REAL *from, int64_t edges, int64_t k, vec *tile) {
    int64_t step = edges * s->channels, lanes = lanes_of(s, k);
    for (int64_t p = 0; p < s->height * s->width; p++) tile[p] = gather(from + p * step, lanes);
}

/* Sums of 3x3 pixels, zeros beyond the border; `column` has room for a row. */
static void sums_of_nine(const Shape *s, const vec *x, vec *column, vec *sums) {
    int64_t wide = s->width;
    for (int64_t r = 0; r < s->height; r++, x += wide, sums += wide) {
        for (int64_t c = 0; c < wide; c++) {
            column[c] = x[c];
            if (r > 0) column[c] += x[c - wide];
            if (r + 1 < s->height) column[c] += x[c + wide];
        }
        for (int64_t c = 0; c < wide; c++) {
            sums[c] = column[c];
            if (c > 0) sums[c] += column[c - 1];
            if (c + 1 < wide) sums[c] += column[c + 1];
        }
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

/* Adds to `nodes`; writes mean and 1 / sqrt(variance + EPSILON) of y. */
int forward(const Shape *s, const REAL *x, const REAL *const *y, const REAL *weights, REAL *mean, REAL *rstd,
            REAL *const *nodes) {
    int64_t area = s->height * s->width, lanes = at_lane(s, 2, 0, 0), c = s->channels;
    int failed = 0;
    Moments *moments = calloc(s->threads * lanes, sizeof *moments);
    if (!moments) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *tile = scratch(2 * area + s->width);
        if (!tile) { failed = 1; continue; }
        for (IMAGES_OF(t))
            for (int64_t o = 0; o < 2; o++)
                for (int64_t node = 0; node < s->fan; node++)
                    for (int64_t k = 0; k < chunks_of(s); k++) {
                        load(s, y[o] + start(s, n, k, node, s->fan), s->fan, k, tile);
                        add_moments(moments + t * lanes + at_lane(s, o, node, k), tile, area);
                    }
    }
    if (!failed) normalisation(moments, s->threads, lanes, mean, rstd);
    free(moments);
    if (failed) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *tile = scratch(2 * area + s->width), *average = tile + area;
        for (IMAGES_OF(t))
            for (int64_t k = 0; k < chunks_of(s); k++) {
                load(s, x + start(s, n, k, 0, 1), 1, k, tile);
                sums_of_nine(s, tile, average + area, average);
                divide(s, average);
                for (int64_t node = 0; node < s->fan; node++) {
                    const REAL *a = weights + node * OPERATIONS;
                    const REAL *from[2];
                    vec factor[2], shift = {0};
                    for (int64_t o = 0; o < 2; o++) {
                        from[o] = y[o] + start(s, n, k, node, s->fan);
                        factor[o] = *(const vec *)(rstd + at_lane(s, o, node, k)) * a[CONVOLVED + o];
                        shift -= *(const vec *)(mean + at_lane(s, o, node, k)) * factor[o];
                    }
                    REAL *to = nodes[node] + start(s, n, k, 0, 1);
                    for (int64_t p = 0; p < area; p++, to += c) {
                        vec sum = gather(to, lanes_of(s, k)) + shift + a[SKIP] * tile[p] + a[MEAN] * average[p];
                        for (int o = 0; o < 2; o++) sum += factor[o] * gather(from[o] + p * s->fan * c, lanes_of(s, k));
                        put(sum, to, lanes_of(s, k));
                    }
                }
            }
    }
    return 0;
}

/* sums (SUMS, node, chunk, lane): of g, of g x, of g (y - mean) for each y, and of g times the mean of 3x3 pixels */
static int gradient_sums(const Shape *s, const REAL *x, const REAL *const *y, const REAL *mean, const REAL *const *g,
                         double *sums) {
    int64_t area = s->height * s->width, all = at_lane(s, SUMS, 0, 0), c = s->channels;
    int failed = 0;
    double *parts = calloc(s->threads * all, sizeof *parts);
    if (!parts) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *tile = scratch(2 * area + s->width), *average = tile + area;
        if (!tile) { failed = 1; continue; }
        for (IMAGES_OF(t))
            for (int64_t k = 0; k < chunks_of(s); k++) {
                load(s, x + start(s, n, k, 0, 1), 1, k, tile);
                sums_of_nine(s, tile, average + area, average);
                divide(s, average);
                for (int64_t node = 0; node < s->fan; node++) {
                    const REAL *slope = g[node] + start(s, n, k, 0, 1), *from[2];
                    vec with[SUMS] = {{0}}, middle[2];
                    for (int64_t o = 0; o < 2; o++) {
                        from[o] = y[o] + start(s, n, k, node, s->fan);
                        middle[o] = *(const vec *)(mean + at_lane(s, o, node, k));
                    }
                    for (int64_t p = 0; p < area; p++) {
                        vec one = gather(slope + p * c, lanes_of(s, k));
                        with[SLOPE] += one;
                        with[SKIP] += one * tile[p];
                        with[MEAN] += one * average[p];
                        for (int o = 0; o < 2; o++)
                            with[CONVOLVED + o] += one * (gather(from[o] + p * s->fan * c, lanes_of(s, k)) - middle[o]);
                    }
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

/* Gradients in x, y and weights for g, the gradients in the nodes. Of x and y where they are not NULL. */
int backward(const Shape *s, const REAL *x, const REAL *const *y, const REAL *weights, const REAL *mean,
             const REAL *rstd, const REAL *const *g, REAL *gx, REAL *const *gy, REAL *weights_g) {
    int64_t area = s->height * s->width, c = s->channels, count = s->images * area;
    int failed = 0;
    double *sums = malloc(at_lane(s, SUMS, 0, 0) * sizeof *sums);
    if (!sums || gradient_sums(s, x, y, mean, g, sums)) { free(sums); return 1; }
    for (int64_t node = 0; node < s->fan; node++)
        for (int64_t o = 0; o < OPERATIONS; o++) {
            int64_t convolved = o == CONVOLVED || o == CONVOLVED + 1;
            double sum = 0;
            for (int64_t i = 0; i < chunks_of(s) * V; i++) {
                double one = o ? sums[at_lane(s, o, node, 0) + i] : 0;
                sum += convolved ? one * rstd[at_lane(s, o - CONVOLVED, node, 0) + i] : one;
            }
            weights_g[node * OPERATIONS + o] = sum;
        }
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *direct = scratch(3 * area + s->width), *spread = direct + area, *back = spread + area;
        if (!direct) { failed = 1; continue; }
        for (IMAGES_OF(t))
            for (int64_t k = 0; k < chunks_of(s); k++) {
                memset(direct, 0, 2 * area * sizeof *direct);
                for (int64_t node = 0; node < s->fan; node++) {
                    const REAL *slope = g[node] + start(s, n, k, 0, 1), *a = weights + node * OPERATIONS;
                    for (int64_t o = 0; o < 2; o++) { /* through BatchNorm: factor (g - first - (y - mean) second) */
                        if (!gy[o]) continue;
                        int64_t at = at_lane(s, o, node, k), here = start(s, n, k, node, s->fan);
                        const vec middle = *(const vec *)(mean + at), r = *(const vec *)(rstd + at);
                        vec first, second, factor = a[CONVOLVED + o] * r;
                        for (int l = 0; l < V; l++) {
                            first[l] = sums[at_lane(s, SLOPE, node, k) + l] / count;
                            second[l] = sums[at_lane(s, CONVOLVED + o, node, k) + l] / count;
                        }
                        second *= r * r;
                        for (int64_t p = 0; p < area; p++, here += s->fan * c) {
                            vec one = gather(slope + p * c, lanes_of(s, k)) - first;
                            one -= (gather(y[o] + here, lanes_of(s, k)) - middle) * second;
                            put(factor * one, gy[o] + here, lanes_of(s, k));
                        }
                    }
                    for (int64_t p = 0; gx && p < area; p++) {
                        vec one = gather(slope + p * c, lanes_of(s, k));
                        direct[p] += a[SKIP] * one;
                        spread[p] += a[MEAN] * one;
                    }
                }
                if (!gx) continue;
                divide(s, spread);
                sums_of_nine(s, spread, back + area, back);
                REAL *to = gx + start(s, n, k, 0, 1);
                for (int64_t p = 0; p < area; p++) put(direct[p] + back[p], to + p * c, lanes_of(s, k));
            }
    }
    free(sums);
    return failed;
}
