/* The edges of NAS-Bench-201 that leave one node x, mixed for their target nodes m:

     nodes[m] += weights[m, SKIP] x + sum over o of weights[m, CONVOLVED + o] BN(y_o[m])
                                    + weights[m, MEAN] mean of the 3x3 pixels of x that are in the image

   Called by nasbench201_edges.py; y_0 and y_1 are the 1x1 and 3x3 convolutions of relu(x) of all these edges (dense.h).
   They are stored; means, relu and the gradients in y are recomputed where they are needed, which costs less.
   x, each node and each gradient are (image, row, column, channel), y (image, row, column, node, chunk, lane) for the
   nodes that have the convolution, statistics (o, node, chunk, lane). `sparse`: what has weight 0 is left out, and its
   gradients are 0. Every function returns 0, or 1 if it is out of memory. */

#include "dense.h"
#include "moments.h"

enum { SKIP = 1, CONVOLVED = 2, MEAN = 4, OPERATIONS = 5 }; /* 0 is `none` */
enum { SLOPE = 0, SUMS = 5 };                               /* sums of g alone, and of g times each operation */
enum { BLOCK = 64 };                                        /* pixels at a time: they fit the cache */

#define BLOCKS_OF(area) int64_t p = 0, size; size = area - p < BLOCK ? area - p : BLOCK, p < area; p += BLOCK
#define NODES_AND_CHUNKS(s) \
    int64_t node = 0; node < s->nodes; node++) for (int64_t k = 0, lanes; lanes = lanes_of(s, k), k < chunks_of(s); k++

static int64_t at_lane(const Shape *s, int64_t o, int64_t node, int64_t k) {
    return ((o * s->nodes + node) * chunks_of(s) + k) * V;
}

static vec lanes_at(const Shape *s, const REAL *of, int64_t o, int64_t node, int64_t k) {
    return *(const vec *)(of + at_lane(s, o, node, k));
}

/* Offset of a chunk of a pixel, counted over all images, in x or a node. */
static int64_t in_x(const Shape *s, int64_t pixel, int64_t k) { return pixel * s->channels + k * V; }

/* Weights, the nodes that have each convolution, and whether one has the mean. */
typedef struct { const REAL *weights; int64_t sparse, means, nodes; Grid grids[2]; } Edges;

static int has(const Edges *e, int64_t node, int64_t o) {
    return !e->sparse || e->weights[node * OPERATIONS + o] != 0;
}

static int convolved(const Edges *e, int64_t node) { return has(e, node, CONVOLVED) || has(e, node, CONVOLVED + 1); }
static int any(const Edges *e, int64_t node) { return has(e, node, SKIP) || convolved(e, node) || has(e, node, MEAN); }

/* memory: 2 nodes */
static Edges edges(const Shape *s, const REAL *weights, int64_t sparse, int64_t *memory) {
    Edges e = {weights, sparse, 0, s->nodes, {{0}}};
    for (int64_t o = 0; o < 2; o++, memory += s->nodes) {
        int64_t count = 0;
        for (int64_t node = 0; node < s->nodes; node++)
            if (has(&e, node, CONVOLVED + o)) memory[count++] = node;
        e.grids[o] = grid_of(s, count, memory);
    }
    for (int64_t node = 0; node < s->nodes; node++) e.means |= has(&e, node, MEAN);
    return e;
}

INLINE void load_lanes(int64_t lanes, const REAL *from, int64_t step, int64_t pixels, vec *tile) {
    for (int64_t p = 0; p < pixels; p++) tile[p] = gather(from + p * step, lanes);
}

/* Sums of 3x3 pixels, zeros beyond the border; `column` is scratch memory for one row. */
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

/* Divide each pixel by the number of the 3x3 pixels around it that are in the image. */
static void divide(const Shape *s, vec *x) {
    for (int64_t r = 0; r < s->height; r++)
        for (int64_t c = 0; c < s->width; c++) {
            int rows = 1 + (r > 0) + (r + 1 < s->height), columns = 1 + (c > 0) + (c + 1 < s->width);
            *x++ *= (REAL)1 / (rows * columns);
        }
}

/* Means of 3x3 pixels of an image (chunk, pixel), followed by scratch memory for a chunk and a row. */
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

/* One chunk of some pixels of all terms of the mixture, and the strides between pixels; what is left out is 0. */
typedef struct { const REAL *x; const vec *y[2], *average; int64_t pixels, step, step_y[2], step_average; } Part;

static Part part_of(const Shape *s, const Edges *e, const REAL *x, const vec *const *y, const vec *average, int64_t n,
                    int64_t p, int64_t pixels, int64_t node, int64_t k) {
    static const vec nothing = {0};
    int64_t area = s->height * s->width, pixel = n * area + p;
    Part of = {x + in_x(s, pixel, k), {&nothing, &nothing}, average ? average + k * area + p : &nothing,
               pixels, s->channels, {0, 0}, average != NULL};
    for (int64_t o = 0; o < 2; o++)
        for (int64_t i = 0, all = e->grids[o].vectors; i * chunks_of(s) < all; i++)
            if (e->grids[o].nodes[i] == node) {
                of.y[o] = y[o] + pixel * all + i * chunks_of(s) + k;
                of.step_y[o] = all;
            }
    return of;
}

INLINE void mix(int64_t lanes, Part of, const REAL *a, const vec *factor, vec shift, int start, REAL *node) {
    for (int64_t p = 0; p < of.pixels; p++) {
        vec sum = start ? (vec){0} : gather(node + p * of.step, lanes);
        sum = sum + shift + a[SKIP] * gather(of.x + p * of.step, lanes);
        sum += a[MEAN] * of.average[p * of.step_average];
        for (int o = 0; o < 2; o++) sum += factor[o] * of.y[o][p * of.step_y[o]];
        put(sum, node + p * of.step, lanes);
    }
}

/* Write y, its mean and 1 / sqrt(variance + EPSILON). */
static int convolve_all(const Shape *s, const Edges *e, const REAL *x, const REAL *const *w, vec *const *y, REAL *mean,
                        REAL *rstd) {
    Grid grid = e->grids[0], nine = e->grids[1];
    int64_t area = s->height * s->width, chunks = chunks_of(s), all = 2 * s->nodes * chunks;
    int64_t room = PLACES * APART * (chunks + GROUP);
    int failed = 0;
    Moments *moments = calloc(s->threads * all, sizeof *moments);
    vec *w1 = vectors(weights_of(s, 1 + PLACES)), *w3 = w1 + weights_of(s, 1);
    if (!moments || !w1) { free(moments); free(w1); return 1; }
    arrange(s, grid, w[0], 1, 0, w1);
    arrange(s, nine, w[1], 3, 0, w3);
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *padded = scratch(padded_of(s, grid) + room);
        if (!padded) { failed = 1; continue; }
        memset(padded, 0, padded_of(s, grid) * sizeof *padded);
        for (GROUPS_OF(t, grid.together)) {
            for (int64_t i = 0; i < images; i++) load_relu(s, grid, x + in_x(s, (n + i) * area, 0), i, padded);
            vec *here[2] = {y[0] + n * area * grid.vectors, y[1] + n * area * nine.vectors};
            if (grid.vectors) convolve_1x1(s, grid, images, padded, w1, here[0]);
            if (nine.vectors) convolve_3x3(s, nine, images, padded, w3, here[1], padded + padded_of(s, grid));
            for (int64_t o = 0; o < 2; o++)
                for (int64_t v = 0; v < e->grids[o].vectors; v++) {
                    int64_t at = (o * s->nodes + e->grids[o].nodes[v / chunks]) * chunks + v % chunks;
                    add_moments(moments + t * all + at, here[o] + v, e->grids[o].vectors, images * area);
                }
        }
    }
    normalisation(moments, s->threads, all, mean, rstd);
    free(moments);
    free(w1);
    return failed;
}

/* Add to `nodes`, or write them if `start`; write y, its mean and 1 / sqrt(variance + EPSILON). w: convolutions of all edges, concatenated. */
int forward(const Shape *s, int64_t sparse, int64_t start, const REAL *x, const REAL *const *w, const REAL *weights, vec *const *y,
            REAL *mean, REAL *rstd, REAL *const *nodes) {
    int64_t area = s->height * s->width, memory[2 * s->nodes];
    Edges e = edges(s, weights, sparse, memory);
    int failed = 0;
    if (e.grids[0].vectors + e.grids[1].vectors && convolve_all(s, &e, x, w, y, mean, rstd)) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *average = scratch((chunks_of(s) + 1) * area + s->width);
        if (!average) { failed = 1; continue; }
        for (IMAGES_OF(t)) {
            if (e.means) averages(s, x, n, average);
            for (BLOCKS_OF(area))
                for (NODES_AND_CHUNKS(s)) {
                    if (!start && !any(&e, node)) continue;
                    const REAL *a = weights + node * OPERATIONS;
                    vec factor[2], shift = {0};
                    for (int64_t o = 0; o < 2; o++) {
                        if (!has(&e, node, CONVOLVED + o)) { factor[o] = (vec){0}; continue; }
                        factor[o] = lanes_at(s, rstd, o, node, k) * a[CONVOLVED + o];
                        shift -= lanes_at(s, mean, o, node, k) * factor[o];
                    }
                    Part of = part_of(s, &e, x, (const vec *const *)y, e.means ? average : NULL, n, p, size, node, k);
                    ANY(mix, of, a, factor, shift, start, nodes[node] + in_x(s, n * area + p, k));
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
        with[MEAN] += one * of.average[p * of.step_average];
        for (int o = 0; o < 2; o++) with[CONVOLVED + o] += one * (of.y[o][p * of.step_y[o]] - middle[o]);
    }
    for (int i = 0; i < SUMS; i++) sums[i] = with[i];
}

/* sums (SUMS, node, chunk, lane): of g, of g x, of g (y - mean) for each y, and of g times the mean of 3x3 pixels;
   those with y alone if the weights are constants */
static int gradient_sums(const Shape *s, const Edges *e, const REAL *x, const vec *const *y, const REAL *mean,
                         const REAL *const *g, int constants, double *sums) {
    int64_t area = s->height * s->width, all = at_lane(s, SUMS, 0, 0);
    int failed = 0, means = e->means && !constants;
    double *parts = calloc(s->threads * all, sizeof *parts);
    if (!parts) return 1;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *average = scratch((chunks_of(s) + 1) * area + s->width);
        if (!average) { failed = 1; continue; }
        for (IMAGES_OF(t)) {
            if (means) averages(s, x, n, average);
            for (BLOCKS_OF(area))
                for (NODES_AND_CHUNKS(s)) {
                    if (constants ? !convolved(e, node) : !any(e, node)) continue;
                    vec with[SUMS], middle[2] = {lanes_at(s, mean, 0, node, k), lanes_at(s, mean, 1, node, k)};
                    Part of = part_of(s, e, x, y, means ? average : NULL, n, p, size, node, k);
                    ANY(add_products, of, g[node] + in_x(s, n * area + p, k), middle, with);
                    for (int64_t i = 0; i < SUMS; i++)
                        for (int l = 0; l < V; l++) parts[t * all + at_lane(s, i, node, k) + l] += with[i][l];
                }
        }
    }
    sum_threads(parts, s->threads, all, sums);
    free(parts);
    return failed;
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

/* gx of a chunk of an image: through the identity, the mean of 3x3 pixels, and relu. */
INLINE void through_means(int64_t lanes, const Shape *s, const Edges *e, const REAL *const *g, int64_t at, Grid grid,
                          const vec *padded, const vec *back, vec *direct, REAL *gx) {
    int64_t area = s->height * s->width, c = s->channels, step = chunks_of(s);
    vec *spread = direct + area, *mean = spread + area * e->means; /* without means, 0 */
    memset(direct, 0, 2 * area * sizeof *direct);
    for (int64_t node = 0; node < s->nodes; node++)
        for (int64_t p = 0; (has(e, node, SKIP) || has(e, node, MEAN)) && p < area; p++) {
            vec one = gather(g[node] + at + p * c, lanes);
            direct[p] += e->weights[node * OPERATIONS + SKIP] * one;
            spread[p] += e->weights[node * OPERATIONS + MEAN] * one;
        }
    if (e->means) divide(s, spread);
    if (e->means) sums_of_nine(s, spread, mean + area, mean);
    for (int64_t p = 0; p < area; p++) {
        int64_t pixel = (p / s->width * grid.columns + p % s->width) * step;
        vec through = (vec)((mask)back[pixel] & (padded[pixel] > 0));
        put(direct[p] + mean[p] + through, gx + at + p * c, lanes);
    }
}

static void weight_gradients(const Shape *s, const Edges *e, const double *sums, const REAL *rstd, REAL *weights_g) {
    for (int64_t node = 0; node < s->nodes; node++)
        for (int64_t o = 0; o < OPERATIONS; o++) {
            const REAL *scale = o == CONVOLVED || o == CONVOLVED + 1 ? rstd + at_lane(s, o - CONVOLVED, node, 0) : NULL;
            double sum = 0;
            for (int64_t i = 0; o && has(e, node, o) && i < chunks_of(s) * V; i++)
                sum += sums[at_lane(s, o, node, 0) + i] * (scale ? scale[i] : 1);
            weights_g[node * OPERATIONS + o] = sum;
        }
}

/* Prepared weights, norms, and the sums of each thread, in one block of memory. */
typedef struct { vec *w1, *w3, *sums; Norm *norms; int64_t apart; } Shared;

static Shared shared_of(const Shape *s, int learn) { /* for all edges */
    int64_t of_w = back_weights_of(s), apart = learn ? weights_of(s, 1 + PLACES) : 0;
    int64_t ready = (1 + PLACES) * of_w, norms = 2 * s->nodes * chunks_of(s) * sizeof(Norm) / sizeof(vec);
    vec *memory = vectors(ready + norms + s->threads * apart);
    if (!memory) return (Shared){0};
    vec *sums = memory + ready + norms;
    memset(sums, 0, s->threads * apart * sizeof(vec));
    return (Shared){memory, memory + of_w, learn ? sums : NULL, (Norm *)(memory + ready), apart};
}

/* gx and the sums of the weight gradients for `images` images from n on. */
static void back(const Shape *s, const Edges *e, Shared of, const REAL *x, const vec *const *y, const REAL *const *g,
                 int64_t n, int64_t images, REAL *gx, vec *sums, vec *padded) {
    Grid grid = e->grids[0], nine = e->grids[1];
    int64_t area = s->height * s->width, pixel = n * area, all = grid.vectors + nine.vectors;
    vec *back = padded + padded_of(s, grid), *room = back + padded_of(s, grid);
    for (int64_t i = 0; all && i < images; i++) load_relu(s, grid, x + in_x(s, (n + i) * area, 0), i, padded);
    if (all) memset(back, 0, padded_of(s, grid) * sizeof *back); /* else masked by `padded`, which is 0 */
    Slopes slopes = {of.norms, g, y[0] + pixel * grid.vectors, pixel};
    if (grid.vectors) back_1x1(s, grid, images, padded, of.w1, slopes, back, sums, room);
    slopes.norms += grid.vectors;
    slopes.y = y[1] + pixel * nine.vectors;
    if (nine.vectors)
        back_3x3(s, nine, images, padded, of.w3, slopes, back, sums ? sums + weights_of(s, 1) : NULL, room);
    for (int64_t i = 0; i < images; i++)
        for (int64_t k = 0; k < chunks_of(s); k++) {
            int64_t lanes = lanes_of(s, k), at = in_x(s, (n + i) * area, k);
            const vec *inside = pixel_at(s, grid, padded, i, 1, 1) + k;
            const vec *incoming = pixel_at(s, grid, back, i, 1, 1) + k;
            ANY(through_means, s, e, g, at, grid, inside, incoming, room, gx);
        }
}

/* Gradients in x and convolutions (or NULL, the first only with the second) and weights (or NULL), for those in the
   nodes, g; those in convolutions that are left out are not written. */
int backward(const Shape *s, int64_t sparse, const REAL *x, const REAL *const *w, const REAL *weights,
             const vec *const *y, const REAL *mean, const REAL *rstd, const REAL *const *g, REAL *gx, REAL *const *w_g,
             REAL *weights_g) {
    int64_t memory[2 * s->nodes];
    Edges e = edges(s, weights, sparse, memory);
    Grid grid = e.grids[0];
    int64_t area = s->height * s->width, chunks = chunks_of(s), room = PLACES * APART * (2 * chunks + GROUP);
    int64_t row = (s->width + ROWS) * grid.vectors, means = 3 * area + s->width, place = 0;
    int failed = 0;
    double *sums = malloc(at_lane(s, SUMS, 0, 0) * sizeof *sums);
    Shared of = shared_of(s, w_g[0] != NULL);
    if (!sums || !of.w1 || gradient_sums(s, &e, x, y, mean, g, !weights_g, sums)) { free(sums); free(of.w1); return 1; }
    if (weights_g) weight_gradients(s, &e, sums, rstd, weights_g);
    if (!gx) { free(sums); free(of.w1); return 0; }
    for (int64_t o = 0; o < 2; o++)
        for (int64_t v = 0; v < e.grids[o].vectors; v++) {
            int64_t node = e.grids[o].nodes[v / chunks];
            REAL weight = weights[node * OPERATIONS + CONVOLVED + o];
            of.norms[place++] = norm_of(s, sums, mean, rstd, weight, o, node, v % chunks);
        }
    arrange(s, grid, w[0], 1, 1, of.w1);
    arrange(s, e.grids[1], w[1], 3, 1, of.w3);
    room = room > row ? room : row;
    room = room > means ? room : means;
    FOR_THREADS
    for (int64_t t = 0; t < s->threads; t++) {
        vec *padded = scratch(2 * padded_of(s, grid) + room);
        if (!padded) { failed = 1; continue; }
        memset(padded, 0, padded_of(s, grid) * sizeof *padded);
        vec *thread_sums = of.sums ? of.sums + t * of.apart : NULL;
        for (GROUPS_OF(t, grid.together)) back(s, &e, of, x, y, g, n, images, gx, thread_sums, padded);
    }
    if (of.sums) {
        collect(s, grid, of.sums, of.apart, 1, w_g[0]);
        collect(s, e.grids[1], of.sums + weights_of(s, 1), of.apart, 3, w_g[1]);
    }
    free(sums);
    free(of.w1);
    return failed;
}
